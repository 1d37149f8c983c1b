package client

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// ordinary is an ordinary WebSocket server, under net/http: it selects the subprotocol
// "chat" and sends each message back.
func ordinary(requests chan<- *http.Request) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u := ws.HTTPUpgrader{Protocol: func(name string) bool { return name == "chat" }}
		conn, _, _, err := u.Upgrade(r, w)
		if err != nil {
			return
		}
		requests <- r
		go func() {
			defer conn.Close()
			for {
				b, op, err := wsutil.ReadClientData(conn)
				if err != nil || wsutil.WriteServerMessage(conn, op, b) != nil {
					return
				}
			}
		}()
	})
}

// A client of an ordinary WebSocket server, over ws and wss: query, headers,
// subprotocol, text and binary messages.
func TestOrdinaryWebSocketServer(t *testing.T) {
	requests := make(chan *http.Request, 1)
	plain, secure := httptest.NewServer(ordinary(requests)), httptest.NewTLSServer(ordinary(requests))
	defer plain.Close()
	defer secure.Close()
	for _, url := range []string{
		"ws" + strings.TrimPrefix(plain.URL, "http") + "/a%20b?token=x%26y",
		"wss" + strings.TrimPrefix(secure.URL, "https") + "/a%20b?token=x%26y",
	} {
		c, err := Dial(testkit.Context(t), url, WithPlainMessages(), WithSubprotocols("mqtt", "chat"),
			WithHeader(http.Header{"Authorization": {"Bearer abc"}}), WithTLS(&tls.Config{InsecureSkipVerify: true}))
		if err != nil {
			t.Fatal(err)
		}
		r := testkit.Receive(t, requests, "the request")
		if r.URL.Path != "/a b" || r.URL.Query().Get("token") != "x&y" || r.Header.Get("Authorization") != "Bearer abc" {
			t.Errorf("the server got %s with %v", r.RequestURI, r.Header)
		}
		if c.Subprotocol() != "chat" {
			t.Errorf("subprotocol %q", c.Subprotocol())
		}
		for _, m := range []framing.Message{{Text: true, Payload: []byte("grüß Gott")}, {Payload: []byte{1, 0xff}}} {
			if err := c.SendMessage(&m); err != nil {
				t.Fatal(err)
			}
			got, err := c.Receive(testkit.Context(t))
			if err != nil || string(got.Payload) != string(m.Payload) || got.Text != m.Text {
				t.Errorf("sent %+v, got %+v, %v", m, got, err)
			}
		}
		if _, err := c.Request(testkit.Context(t), nil); !errors.Is(err, ErrNoRequests) {
			t.Errorf("a request got %v", err)
		}
		c.Close()
	}
}

// Options with bad values, and options that a scheme would ignore, are errors before
// anything is dialed.
func TestBadOptions(t *testing.T) {
	for _, tc := range []struct {
		url    string
		option Option
		says   string
	}{
		{"ws://127.0.0.1:1", WithHeader(http.Header{"Host": {"x"}}), "Host"},
		{"ws://127.0.0.1:1", WithHeader(http.Header{"A": {"b\nc"}}), "control"},
		{"wss://127.0.0.1:1", WithSubprotocols("a b"), "token"},
		{"tcp://127.0.0.1:1", WithHeader(http.Header{"A": {"b"}}), "ws"},
		{"quic://127.0.0.1:1", WithSubprotocols("a"), "ws"},
		{"tls://127.0.0.1:1", WithPlainMessages(), "ws"},
		{"quic://127.0.0.1:1", WithProxy("http://127.0.0.1:1"), "quic"},
		{"unix:///run/x", WithProxy("http://127.0.0.1:1"), "unix"},
		{"tcp://127.0.0.1:1", WithProxy("https://127.0.0.1:1"), "http://"},
		{"tcp://127.0.0.1:1", WithProxy("127.0.0.1:1"), "http://"},
		{"tcp://127.0.0.1:1", WithProxy("http://me:secret@127.0.0.1:1/path"), "http://"},
		{"tcp://127.0.0.1:1", WithProxy("http://me:secret@:3128"), "http://"},
		{"tcp://127.0.0.1:1", WithProxy("http://me:secret@127.0.0.1:99999"), "http://"},
		{"tcp://127.0.0.1:1", WithLimits(Limits{MaxMessageSize: -1}), "MaxMessageSize"},
		{"tcp://127.0.0.1:1", WithLimits(Limits{OutboxLimit: -1}), "OutboxLimit"},
		{"tcp://127.0.0.1:1", WithLimits(Limits{MaxEventBytes: -1}), "MaxEventBytes"},
		{"tcp://127.0.0.1:1", WithLimits(Limits{IdleTimeout: -1}), "IdleTimeout"},
	} {
		c, err := Dial(t.Context(), tc.url, tc.option)
		if !errors.Is(err, ErrBadOption) || !strings.Contains(err.Error(), tc.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, %v, want ErrBadOption with %q in it", tc.url, c, err, tc.says)
		}
	}
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if len(shared.hubs) != 0 {
		t.Errorf("bad options left %d hubs", len(shared.hubs))
	}
}
