package client

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
)

// ErrBadURL is wrapped by every error about the URL itself. Nothing was dialed
// then.
var ErrBadURL = errors.New("client: bad URL")

// UnsupportedSchemeError is the error for a URL whose scheme Dial does not support.
// It is also ErrBadURL.
type UnsupportedSchemeError struct{ Scheme string }

func (e *UnsupportedSchemeError) Error() string {
	return fmt.Sprintf("%v: scheme %q is none of tcp, tls, ws, wss, quic, unix", ErrBadURL, e.Scheme)
}

// Is makes errors.Is(e, ErrBadURL) true.
func (e *UnsupportedSchemeError) Is(target error) bool { return target == ErrBadURL }

// target is a parsed URL: transport, address, and the path of a WebSocket.
type target struct {
	scheme string
	addr   string // "host:port", IPv6 in brackets; or "unix:" and a name
	path   string // of ws and wss only
}

// The default ports of WebSocket URLs (RFC 6455 section 3).
const (
	wsPort  = "80"
	wssPort = "443"
)

// parseTarget parses rawURL and refuses parts of it that would be ignored.
func parseTarget(rawURL string) (target, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// url.Error repeats the whole URL, which the caller already has.
		var detail *url.Error
		if errors.As(err, &detail) {
			err = detail.Err
		}
		return target{}, fmt.Errorf("%w: %w", ErrBadURL, err)
	}
	if u.Scheme == "unix" {
		return parseUnix(u)
	}
	t := target{scheme: u.Scheme}
	port := u.Port()
	switch u.Scheme {
	case "tcp", "tls", "quic":
		if u.Path != "" {
			return target{}, badURL("a %s URL has no path, this one has %q", u.Scheme, u.Path)
		}
	case "ws", "wss":
		if t.path = u.Path; t.path == "" {
			t.path = "/"
		}
		switch {
		case port != "":
		case u.Scheme == "wss":
			port = wssPort
		default:
			port = wsPort
		}
	default:
		return target{}, &UnsupportedSchemeError{Scheme: u.Scheme}
	}
	switch {
	case u.Opaque != "" || u.Hostname() == "":
		return target{}, badURL("it names no host; write %s://host:port", u.Scheme)
	case port == "":
		return target{}, badURL("it names no port; write %s://host:port", u.Scheme)
	case u.User != nil:
		return target{}, badURL("user and password are not supported")
	case u.RawQuery != "" || u.ForceQuery:
		return target{}, badURL("a query is not supported")
	case u.Fragment != "":
		return target{}, badURL("a fragment is not supported")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return target{}, badURL("port %s is outside 1 to 65535", port)
	}
	t.addr = net.JoinHostPort(u.Hostname(), port)
	return t, nil
}

func badURL(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadURL, fmt.Sprintf(format, args...))
}
