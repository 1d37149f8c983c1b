package bench

import (
	"fmt"
	"net"
	"net/url"
	"strings"
)

// A target is a server's URL, taken apart.
type target struct {
	scheme string // tcp, tls, ws, wss, quic or unix
	addr   string // host:port, or a Unix socket's path
	path   string // of a WebSocket
}

func (t target) websocket() bool { return t.scheme == "ws" || t.scheme == "wss" }
func (t target) secure() bool    { return t.scheme == "tls" || t.scheme == "wss" }

// network is the name that package net has for the target's sockets.
func (t target) network() string {
	if t.scheme == "unix" {
		return "unix"
	}
	return "tcp"
}

func parseTarget(rawURL string) (target, error) {
	if path, ok := strings.CutPrefix(rawURL, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" || path == "@" {
			return target{}, fmt.Errorf("bench: URL %q must name a socket's path", rawURL)
		}
		return target{scheme: "unix", addr: path}, nil
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return target{}, fmt.Errorf("bench: URL: %w", err)
	}
	switch u.Scheme {
	case "tcp", "tls", "ws", "wss", "quic":
	default:
		return target{}, fmt.Errorf("bench: URL %q must begin with tcp, tls, ws, wss, quic or unix, and ://", rawURL)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return target{}, fmt.Errorf("bench: URL %q must name host:port", rawURL)
	}
	t := target{scheme: u.Scheme, addr: u.Host, path: u.RequestURI()}
	if !t.websocket() && u.Path != "" {
		return target{}, fmt.Errorf("bench: URL %q has a path, and %s has none", rawURL, u.Scheme)
	}
	return t, nil
}
