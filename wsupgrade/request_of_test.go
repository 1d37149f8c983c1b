package wsupgrade

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// ask sends an upgrade request with more header lines, and returns the response's head.
func ask(t *testing.T, addr, target, lines string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%s"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", target, addr, lines)
	var head []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(head), headEnd); head = append(head, b[0]) {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatalf("%v after %q", err, head)
		}
	}
	if strings.Contains(string(head), " 101 ") {
		return string(head)
	}
	text, _ := io.ReadAll(c)
	return string(head) + string(text)
}

// TestRequestOf reads the request in an Authorizer and in OnOpen; afterwards only what
// Config selects is left.
func TestRequestOf(t *testing.T) {
	for _, keep := range []bool{false, true} {
		opened := make(chan *engine.Session, 1)
		cfg := Config{Packets: []string{"/room"}}
		if keep {
			cfg.KeepURL, cfg.KeepHeaders = true, []string{"x-tenant"}
		}
		check := func(where string, r *http.Request) {
			cookie, err := r.Cookie("id")
			if r.URL.Path != "/room" || r.URL.Query().Get("token") != "abc" || err != nil || cookie.Value != "7" ||
				r.Header.Get("X-Tenant") != "blue" || r.Host == "" {
				t.Errorf("%s: %+v", where, r)
			}
		}
		_, addr := serve.Start(t, engine.Config{
			Authorize: func(_ context.Context, h *engine.Handshake) error { check("Authorize", RequestOf(h)); return nil },
			Handler: engine.HandlerFuncs{Open: func(s *engine.Session) {
				check("OnOpen", RequestOf(s))
				opened <- s
			}},
		}, engine.Packets(), New(cfg))
		if head := ask(t, addr, "/room?token=abc", "Cookie: id=7\r\nX-Tenant: blue\r\nX-Other: 1\r\n"); !strings.Contains(head, " 101 ") {
			t.Error(head)
		}
		s := <-opened
		switch r := afterOnOpen(s); {
		case !keep && r != nil:
			t.Errorf("kept %+v", r)
		case keep && (r == nil || r.URL.Query().Get("token") != "abc" || r.Header.Get("X-Tenant") != "blue" || len(r.Header) != 1):
			t.Errorf("%+v", r)
		}
	}
}

// afterOnOpen returns the session's request after OnOpen has returned.
func afterOnOpen(s *engine.Session) *http.Request {
	for s.Value(requestKey{}) != nil {
		// It is dropped right after OnOpen, which has sent s already.
	}
	return RequestOf(s)
}

// TestRequestOfOthers is nil: there is no request.
func TestRequestOfOthers(t *testing.T) {
	got := make(chan *http.Request, 1)
	_, addr := serve.Start(t, engine.Config{Handler: engine.HandlerFuncs{Open: func(s *engine.Session) { got <- RequestOf(s) }}})
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if r := <-got; r != nil {
		t.Errorf("%+v", r)
	}
}

// TestRefusalStatus: an Authorizer chooses the HTTP status; internal errors stay here.
func TestRefusalStatus(t *testing.T) {
	verdicts := make(chan error, 1)
	_, addr := serve.Start(t, engine.Config{Handler: engine.HandlerFuncs{},
		Authorize: func(context.Context, *engine.Handshake) error { return <-verdicts }}, engine.Packets(), Path("/ws"))
	for _, c := range []struct {
		err  error
		want string
	}{
		{&engine.Refusal{Status: http.StatusUnauthorized, Reason: "no token", Err: errors.New("secret")}, "HTTP/1.1 401 Unauthorized\r\n"},
		{&engine.Refusal{Status: 200}, "HTTP/1.1 403 Forbidden\r\n"},
		{errors.New("secret"), "HTTP/1.1 403 Forbidden\r\n"},
	} {
		verdicts <- c.err
		got := ask(t, addr, "/ws", "")
		if !strings.HasPrefix(got, c.want) || strings.Contains(got, "secret") {
			t.Errorf("%v: %q", c.err, got)
		}
		if r, ok := c.err.(*engine.Refusal); ok && !strings.Contains(got, r.Reason) {
			t.Errorf("%q lacks %q", got, r.Reason)
		}
	}
	if got := ask(t, addr, "/ws", "Origin: https://elsewhere.example\r\n"); !strings.HasPrefix(got, "HTTP/1.1 403 Forbidden\r\n") {
		t.Error(got)
	}
}
