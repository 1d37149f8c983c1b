package wsupgrade_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/wsupgrade"
)

// TestDial uses our own server: requests of the dialing side, no pings, and closes
// of both sides.
func TestDial(t *testing.T) {
	for name, d := range map[string]engine.Dispatch{"workers": engine.Workers, "inline": engine.Inline} {
		t.Run(name, func(t *testing.T) {
			server := newRecorder()
			_, addr := startWS(t, engine.Config{Handler: server, Dispatch: d})
			client, replies := newRecorder(), make(chan *framing.Message, 16)
			client.message = func(_ *engine.Session, m *framing.Message) { replies <- m.Clone() }
			e := engine.New(engine.Config{Handler: client, Dispatch: d})
			defer e.Close()
			s, err := e.Dial(t.Context(), addr, wsupgrade.Path("/ws"))
			if err != nil {
				t.Fatal(err)
			}
			if s.Transport() != "ws" || !s.Dialed() {
				t.Errorf("transport %q, dialed %v", s.Transport(), s.Dialed())
			}
			for _, size := range []int{0, 4, 200, 70_000, 1 << 20} {
				m := framing.Message{Type: framing.Request, ID: s.NextID(), BizType: 5, Payload: bytes.Repeat([]byte("x"), size)}
				if err := s.SendMessage(&m); err != nil {
					t.Fatal(err)
				}
				if got := testkit.Receive(t, replies, "a reply"); got.Type != framing.Response || got.ID != m.ID || got.BizType != 5 ||
					!bytes.Equal(got.Payload, m.Payload) {
					t.Fatalf("reply %+v", got)
				}
			}
			testkit.Receive(t, server.opened, "OnOpen").CloseWith(&wsupgrade.CloseError{Code: 4002, Reason: "moved"})
			var closed *wsupgrade.CloseError
			if reason := testkit.Receive(t, client.reasons, "OnClose"); !errors.As(reason, &closed) ||
				closed.Code != 4002 || closed.Reason != "moved" {
				t.Errorf("the client's OnClose got %v", reason)
			}
			if reason := testkit.Receive(t, server.reasons, "OnClose"); errors.Is(reason, engine.ErrPeerClosed) ||
				!errors.Is(reason, engine.ErrClosed) {
				t.Errorf("the server's OnClose got %v", reason)
			}
		})
	}
}

// TestDialForeignServer uses gobwas's own server under net/http.
func TestDialForeignServer(t *testing.T) {
	var wg sync.WaitGroup
	defer wg.Wait()
	hs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wg.Add(1)
		defer wg.Done()
		conn, _, _, err := ws.UpgradeHTTP(r, w)
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
		_ = wsutil.WriteServerMessage(conn, ws.OpPing, []byte("there?"))
		for {
			b, op, err := wsutil.ReadClientData(conn)
			if err != nil {
				return
			}
			_ = wsutil.WriteServerMessage(conn, op, b)
		}
	}))
	defer hs.Close()
	client, replies := newRecorder(), make(chan *framing.Message, 16)
	client.message = func(_ *engine.Session, m *framing.Message) { replies <- m.Clone() }
	e := engine.New(engine.Config{Handler: client})
	defer e.Close()
	s, err := e.Dial(t.Context(), hs.Listener.Addr().String(), wsupgrade.New(wsupgrade.Config{Plain: []string{"/any"}}))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []framing.Message{{Payload: []byte("grüß Gott"), Text: true}, {Payload: make([]byte, 70_000)}} {
		if err := s.SendMessage(&m); err != nil {
			t.Fatal(err)
		}
		if got := testkit.Receive(t, replies, "a reply"); got.Text != m.Text || !bytes.Equal(got.Payload, m.Payload) {
			t.Fatalf("%d bytes, text %v", len(got.Payload), got.Text)
		}
	}
	s.Close()
	if reason := testkit.Receive(t, client.reasons, "OnClose"); !errors.Is(reason, engine.ErrClosed) {
		t.Errorf("OnClose got %v", reason)
	}
}

// TestDialRefused tells the HTTP status, and that a retry makes sense where it
// does.
func TestDialRefused(t *testing.T) {
	_, addr := startWS(t, engine.Config{Handler: newRecorder()})
	e := engine.New(engine.Config{Handler: newRecorder()})
	defer e.Close()
	_, err := e.Dial(t.Context(), addr, wsupgrade.Path("/nowhere"))
	var refused *wsupgrade.HandshakeError
	if !errors.Is(err, engine.ErrRefused) || !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("%v", err)
	}
}

// TestDialSilentServer gives up when the context ends.
func TestDialSilentServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e := engine.New(engine.Config{Handler: newRecorder()})
	defer e.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := e.Dial(ctx, l.Addr().String(), wsupgrade.Path("/ws")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
