package client

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestParseTarget(t *testing.T) {
	for _, tc := range []struct {
		url  string
		want target
	}{
		{"tcp://127.0.0.1:8001", target{"tcp", "127.0.0.1:8001", ""}},
		{"TCP://localhost:8001", target{"tcp", "localhost:8001", ""}},
		{"quic://[::1]:8001", target{"quic", "[::1]:8001", ""}},
		{"ws://127.0.0.1:8001/ws", target{"ws", "127.0.0.1:8001", "/ws"}},
		{"ws://example.org/a/b", target{"ws", "example.org:80", "/a/b"}},
		{"ws://example.org:81", target{"ws", "example.org:81", "/"}},
		{"tls://example.org:8001", target{"tls", "example.org:8001", ""}},
		{"wss://example.org/x", target{"wss", "example.org:443", "/x"}},
		{"wss://example.org:81", target{"wss", "example.org:81", "/"}},
		{"ws://example.org?a=b", target{"ws", "example.org:80", "/?a=b"}},
		{"ws://example.org/a%20ü?b=%20&c", target{"ws", "example.org:80", "/a%20%C3%BC?b=%20&c"}},
	} {
		got, err := parseTarget(tc.url)
		if err != nil || got != tc.want {
			t.Errorf("%s: got %+v, %v, want %+v", tc.url, got, err, tc.want)
		}
	}
}

func TestParseTargetRefuses(t *testing.T) {
	for _, tc := range []struct{ url, says string }{
		{"", "scheme"},
		{"127.0.0.1:8001", "tcp://127.0.0.1:8001"},
		{"localhost:8001", "tcp://localhost:8001"},
		{"[::1]:8001", "tcp://[::1]:8001"},
		{"localhost", "no scheme"},
		{"me:secret@localhost:8001", "no scheme"},
		{"http://127.0.0.1:8001", "http"},
		{"tls://127.0.0.1", "port"},
		{"tcp://127.0.0.1", "port"},
		{"quic://127.0.0.1:", "port"},
		{"tcp://:8001", "host"},
		{"tcp:8001", "host"},
		{"tcp://127.0.0.1:0", "port 0"},
		{"tcp://127.0.0.1:65536", "65536"},
		{"tcp://127.0.0.1:x", "port"},
		{"tcp://127.0.0.1:1/path", "path"},
		{"quic://127.0.0.1:1/", "path"},
		{"tcp://me:secret@127.0.0.1:1", "password"},
		{"tcp://127.0.0.1:1?a=b", "query"},
		{"quic://127.0.0.1:1?", "query"},
		{"ws://127.0.0.1:1/ws?a=b c", "query"},
		{"ws://127.0.0.1:1/ws?ü", "query"},
		{"ws://127.0.0.1:1/ws#top", "fragment"},
	} {
		_, err := parseTarget(tc.url)
		if !errors.Is(err, ErrBadURL) || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%q: got %v, want ErrBadURL with %q in it", tc.url, err, tc.says)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error tells the password: %v", tc.url, err)
		}
	}
}

func TestDialUnsupportedScheme(t *testing.T) {
	_, err := Dial(context.Background(), "gopher://127.0.0.1:8001")
	var scheme *UnsupportedSchemeError
	if !errors.As(err, &scheme) || scheme.Scheme != "gopher" {
		t.Errorf("got %v, want an UnsupportedSchemeError for gopher", err)
	}
}
