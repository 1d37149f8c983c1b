package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startChat serves the chat on a free port, and returns the engine and the server's address.
func startChat(t *testing.T) (*engine.Engine, string) {
	t.Helper()
	e, chat := newServer()
	t.Cleanup(func() { _ = e.Close() })
	l, err := e.Listen("127.0.0.1:0", chat)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e, l.Addr().String()
}

// dialPage opens a WebSocket as a browser does for the chat's page.
func dialPage(t *testing.T, addr, target, name, origin string) (net.Conn, error) {
	t.Helper()
	header := http.Header{"Origin": {origin}}
	if name != "" {
		header.Set("Cookie", "name="+name)
	}
	d := ws.Dialer{Header: ws.HandshakeHeaderHTTP(header), Timeout: testkit.Patience}
	c, rest, _, err := d.Dial(t.Context(), "ws://"+addr+target)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	if rest != nil { // the first lines came with the response
		b, _ := rest.Peek(rest.Buffered())
		return &ahead{c, bytes.NewReader(bytes.Clone(b))}, nil
	}
	return c, nil
}

// ahead is a connection whose first bytes have been read already.
type ahead struct {
	net.Conn
	first *bytes.Reader
}

func (a *ahead) Read(b []byte) (int, error) {
	if a.first.Len() > 0 {
		return a.first.Read(b)
	}
	return a.Conn.Read(b)
}

const ownPage = "http://localhost:8080"

func enter(t *testing.T, addr, room, name string) net.Conn {
	t.Helper()
	c, err := dialPage(t, addr, room+"?token=secret", name, ownPage)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func hears(t *testing.T, c net.Conn, want string) {
	t.Helper()
	b, op, err := wsutil.ReadServerData(c)
	if err != nil || op != ws.OpText || string(b) != want {
		t.Fatalf("got %q (%v, %v), want %q", b, op, err, want)
	}
}

func TestRoomsHearTheirMembers(t *testing.T) {
	_, addr := startChat(t)
	ada := enter(t, addr, "/go", "Ada")
	hears(t, ada, "Ada has come")
	tea := enter(t, addr, "/tea", "Bob")
	hears(t, tea, "Bob has come")
	grace := enter(t, addr, "/go", "Grace")
	hears(t, ada, "Grace has come")
	hears(t, grace, "Grace has come")
	if err := wsutil.WriteClientText(ada, []byte("grüß dich")); err != nil {
		t.Fatal(err)
	}
	hears(t, ada, "Ada: grüß dich")
	hears(t, grace, "Ada: grüß dich")
	_ = ada.Close()
	b, err := wsutil.ReadServerText(grace)
	if err != nil || !strings.HasPrefix(string(b), "Ada has left: ") {
		t.Errorf("got %q, %v", b, err)
	}
	if err := wsutil.WriteClientText(tea, []byte("alone?")); err != nil {
		t.Fatal(err)
	}
	hears(t, tea, "Bob: alone?") // and nothing of the other room before it
}

func TestStrangersAreRefused(t *testing.T) {
	e, addr := startChat(t)
	for _, c := range []struct {
		target, name, origin string
		status               int
	}{
		{"/go?token=wrong", "Ada", ownPage, http.StatusUnauthorized},
		{"/go", "Ada", ownPage, http.StatusUnauthorized},
		{"/go?token=secret", "", ownPage, http.StatusUnauthorized},
		{"/go?token=secret", "Ada", "http://evil.example", http.StatusForbidden},
		{"/other?token=secret", "Ada", ownPage, http.StatusNotFound},
	} {
		_, err := dialPage(t, addr, c.target, c.name, c.origin)
		var status ws.StatusError
		if !errors.As(err, &status) || int(status) != c.status {
			t.Errorf("%s by %q from %s: %v, want status %d", c.target, c.name, c.origin, err, c.status)
		}
	}
	if n := e.Stats().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

// TestSlowReaderIsDropped: the others are served when one member does not read.
func TestSlowReaderIsDropped(t *testing.T) {
	e, addr := startChat(t)
	slow := enter(t, addr, "/go", "Slow")
	hears(t, slow, "Slow has come")
	ada := enter(t, addr, "/go", "Ada")
	hears(t, ada, "Ada has come")
	text := bytes.Repeat([]byte("x"), 4000)
	dropped := func() bool { return e.Stats().Closed["slow_consumer"] == 1 }
	for n := 0; !dropped(); n++ {
		if n == 20_000 { // 80 MB are more than the system's buffers and the outbox
			t.Fatal("the slow reader is still there")
		}
		if err := wsutil.WriteClientText(ada, text); err != nil {
			t.Fatal(err)
		}
		b, err := wsutil.ReadServerText(ada)
		if err != nil || !bytes.HasPrefix(b, []byte("Ada: x")) && !bytes.HasPrefix(b, []byte("Slow has left")) {
			t.Fatalf("got %.20q, %v", b, err)
		}
	}
}

func TestServerEndsWithItsContext(t *testing.T) {
	e, chat := newServer()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.ListenAndServe(ctx, "127.0.0.1:0", chat); err != nil {
		t.Fatal(err)
	}
}

func TestPage(t *testing.T) {
	b, err := fs.ReadFile(page, "index.html")
	if err != nil || !bytes.Contains(b, []byte(":8001/")) {
		t.Errorf("%.100q, %v", b, err)
	}
}
