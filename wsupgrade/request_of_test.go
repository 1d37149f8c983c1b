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

// TestRequestOfIsTheWholeRequest refuses a request that package http cannot parse: else an
// Authorizer would decide about an empty one, and the session get the path of another.
func TestRequestOfIsTheWholeRequest(t *testing.T) {
	_, addr := serve.Start(t, engine.Config{Handler: engine.HandlerFuncs{}, Authorize: func(_ context.Context, h *engine.Handshake) error {
		if r := RequestOf(h); r.URL.Path != "/admin" {
			t.Errorf("%+v", r)
		}
		return nil
	}}, engine.Packets(), New(Config{Packets: []string{"/admin"}}))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = fmt.Fprintf(c, "GET /admin HTTP/1.10\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n", addr)
	status := make([]byte, len("HTTP/1.1 400"))
	if _, err := io.ReadFull(c, status); err != nil || string(status) != "HTTP/1.1 400" {
		t.Errorf("%q, %v", status, err)
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

// TestBearerToken takes the token from the header and from the query.
func TestBearerToken(t *testing.T) {
	_, addr := serve.Start(t, engine.Config{Handler: engine.HandlerFuncs{},
		Authorize: BearerToken(func(_ context.Context, _ *engine.Handshake, token string) error {
			switch token {
			case "good":
				return nil
			case "later":
				return &engine.Refusal{Status: http.StatusTooManyRequests}
			}
			return errors.New("secret")
		})}, engine.Packets(), Path("/ws"))
	for _, c := range []struct{ target, lines, want string }{
		{"/ws", "Authorization: Bearer good\r\n", "101"},
		{"/ws", "authorization: bearer good\r\n", "101"},
		{"/ws?access_token=good", "", "101"},
		{"/ws?access_token=later", "", "429"},
		{"/ws?access_token=bad", "", "401"},
		{"/ws?access_token=good", "Authorization: Bearer bad\r\n", "401"},
		{"/ws", "Authorization: Basic good\r\n", "401"},
		{"/ws", "", "401"},
	} {
		got := ask(t, addr, c.target, c.lines)
		if !strings.HasPrefix(got, "HTTP/1.1 "+c.want) || strings.Contains(got, "secret") {
			t.Errorf("%+v: %q", c, got)
		}
	}
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write(make([]byte, 16)) // packets carry no request
	_, _ = c.Write([]byte{1})
	if n, _ := c.Read(make([]byte, 1)); n > 0 {
		t.Error("admitted without a request")
	}
}
