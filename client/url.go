package client

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
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

// target is a parsed URL: transport, address, and the rest for a WebSocket.
type target struct {
	scheme string
	addr   string // "host:port", IPv6 in brackets; or "unix:" and a name
	uri    string // path and query, percent-encoded; of ws and wss only
}

// webSocket reports whether t is a ws or wss URL.
func (t *target) webSocket() bool { return t.uri != "" }

// The default ports of WebSocket URLs (RFC 6455 section 3).
const (
	wsPort  = "80"
	wssPort = "443"
)

// parseTarget parses rawURL and refuses parts of it that would be ignored.
func parseTarget(rawURL string) (target, error) {
	scheme, _, _ := strings.Cut(rawURL, ":")
	if !strings.Contains(rawURL, "://") && !isScheme(scheme) {
		return target{}, noScheme(rawURL)
	}
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
		switch t.uri = u.RequestURI(); { // it encodes the path, not the query
		case strings.ContainsFunc(t.uri, func(c rune) bool { return c <= ' ' || c > '~' }):
			return target{}, badURL("its query is not percent-encoded")
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
	case !t.webSocket() && (u.RawQuery != "" || u.ForceQuery):
		return target{}, badURL("a %s URL has no query", u.Scheme)
	case u.Fragment != "":
		return target{}, badURL("a fragment is not supported")
	}
	if !isPort(port) {
		return target{}, badURL("port %s is outside 1 to 65535", port)
	}
	t.addr = net.JoinHostPort(u.Hostname(), port)
	return t, nil
}

// isPort reports whether a connection can be made to the port.
func isPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// isScheme reports whether Dial supports a URL's scheme.
func isScheme(name string) bool {
	switch strings.ToLower(name) {
	case "tcp", "tls", "ws", "wss", "quic", "unix":
		return true
	}
	return false
}

// noScheme is the error for a URL without a scheme. It repeats only a plain
// "host:port", because another text may contain a password.
func noScheme(rawURL string) error {
	addr := "host:port"
	if _, _, err := net.SplitHostPort(rawURL); err == nil && !strings.ContainsAny(rawURL, "@/") {
		addr = rawURL
	}
	return badURL("it names no scheme; write tcp://%s, or tls, ws, wss, quic or unix instead of tcp", addr)
}

func badURL(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadURL, fmt.Sprintf(format, args...))
}
