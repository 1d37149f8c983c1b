package quicbridge

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestHazard15ReplyThenClose: everything sent before Close arrives, at a plain
// client that reads to the streams' ends and at a Millrace one.
func TestHazard15ReplyThenClose(t *testing.T) { eachDispatch(t, testHazard15ReplyThenClose) }

func testHazard15ReplyThenClose(t *testing.T, d engine.Dispatch) {
	const n = 200
	payload := strings.Repeat("x", 10_000)
	srv := serve(t, engine.Config{Dispatch: d, LingerTimeout: testPatience, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for i := range n {
			_ = s.SendMessage(&framing.Message{ID: uint32(i), Stream: m.Stream, Payload: []byte(payload)})
		}
		_ = s.Reply(m, []byte("last"))
		s.Close()
	})}, Config{})
	t.Run("plain", func(t *testing.T) {
		q := raw(t, srv.addr, nil, ALPN)
		s := open(t, q)
		send(t, s, request(t, 7, "go"))
		for i := range n {
			expect(t, s, framing.OneWay, uint32(i), payload)
			if i%50 == 0 {
				time.Sleep(20 * time.Millisecond) // a reader that isn't the fastest
			}
		}
		expect(t, s, framing.Response, 7, "last")
		expectEOF(t, s)
		_ = s.Close()
		expectCode(t, q, CodeNone)
	})
	t.Run("millrace", func(t *testing.T) {
		for range 10 {
			c := newClient(t, engine.Config{Dispatch: d}, Config{})
			s := c.dial(t, srv.addr)
			if err := s.SendMessage(&framing.Message{Type: framing.Request, ID: 7}); err != nil {
				t.Fatal(err)
			}
			if err := c.reason(t); !errors.Is(err, engine.ErrPeerClosed) {
				t.Fatalf("OnClose got %v", err)
			}
			if len(c.got) != n+1 || string(c.got[n].Payload) != "last" {
				t.Fatalf("%d messages came, want %d", len(c.got), n+1)
			}
		}
	})
}

// TestHazard15SendThenClose: everything that a client sent before Close is
// handled by the server.
func TestHazard15SendThenClose(t *testing.T) { eachDispatch(t, testHazard15SendThenClose) }

func testHazard15SendThenClose(t *testing.T, d engine.Dispatch) {
	for _, typ := range []framing.Type{framing.OneWay, framing.Request} {
		var r recorder
		r.onMsg = func(s *engine.Session, m *framing.Message) {
			if m.ID%64 == 0 {
				time.Sleep(5 * time.Millisecond)
			}
			if m.Type == framing.Request {
				_ = s.Reply(m, m.Payload)
			}
		}
		srv := serve(t, engine.Config{Dispatch: d, Handler: &r}, Config{})
		c := newClient(t, engine.Config{Dispatch: d, LingerTimeout: testPatience}, Config{})
		s := c.dial(t, srv.addr)
		const n = 300
		for i := range n {
			if err := s.SendMessage(&framing.Message{Type: typ, ID: uint32(i), Payload: make([]byte, 5000)}); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		if err := c.reason(t); !errors.Is(err, engine.ErrClosed) {
			t.Fatalf("the client's OnClose got %v", err)
		}
		if err := r.reason(t); !errors.Is(err, engine.ErrPeerClosed) {
			t.Fatalf("the server's OnClose got %v", err)
		}
		if r.count() != n {
			t.Fatalf("%d messages came, want %d", r.count(), n)
		}
		if err := s.Send(nil); !errors.Is(err, engine.ErrClosed) {
			t.Fatalf("Send after Close: %v", err)
		}
	}
}

// TestCloseIsPrompt: sides that have nothing to say don't wait for each other.
func TestCloseIsPrompt(t *testing.T) {
	ec := engine.Config{Handler: echo, LingerTimeout: time.Minute}
	for _, c := range []struct {
		name  string
		close func(a, b *engine.Session)
	}{
		{"client", func(a, _ *engine.Session) { a.Close() }},
		{"server", func(_, b *engine.Session) { b.Close() }},
		{"both", func(a, b *engine.Session) { go a.Close(); b.Close() }},
	} {
		for _, used := range []bool{false, true} {
			srv := serve(t, ec, Config{})
			cl := newClient(t, engine.Config{LingerTimeout: time.Minute}, Config{})
			a := cl.dial(t, srv.addr)
			if used {
				_ = a.SendMessage(&framing.Message{Type: framing.Request, ID: 1})
				cl.await(t, "the reply", func() bool { return len(cl.got) == 1 })
			}
			var b *engine.Session
			eventually(t, "the session", func() bool {
				for b = range srv.Sessions() {
				}
				return b != nil
			})
			c.close(a, b)
			cl.reason(t)
			eventually(t, c.name+": the server's end", func() bool { return srv.Stats().Active == 0 })
		}
	}
}

// TestCloseCodes: the peer learns from the code why.
func TestCloseCodes(t *testing.T) {
	for _, c := range []struct {
		end  func(s *engine.Session)
		code Code
	}{
		{func(s *engine.Session) { s.Close() }, CodeNone},
		{func(s *engine.Session) { s.CloseWith(errors.New("the application's own")) }, CodeNone},
		{func(s *engine.Session) { s.CloseWith(engine.ErrRefused) }, CodeRefused},
		{func(s *engine.Session) { s.Abort(engine.ErrProtocol) }, CodeProtocol},
		{func(s *engine.Session) { s.Abort(nil) }, CodeNone},
		{func(*engine.Session) { panic("the handler's") }, CodeInternal},
	} {
		var r recorder
		r.onMsg = func(s *engine.Session, _ *framing.Message) { c.end(s) }
		srv := serve(t, engine.Config{Handler: &r}, Config{})
		q := raw(t, srv.addr, nil, ALPN)
		s := open(t, q)
		send(t, s, request(t, 1, ""))
		_ = s.Close()
		expectCode(t, q, c.code)
		r.reason(t)
	}
}

// TestHazard16Shutdown: requests before a shutdown are answered, the code shows why
// the session ends, and a peer that doesn't read can't delay it.
func TestHazard16Shutdown(t *testing.T) { eachDispatch(t, testHazard16Shutdown) }

func testHazard16Shutdown(t *testing.T, d engine.Dispatch) {
	var handled atomic.Int32
	srv := serve(t, engine.Config{Dispatch: d, LingerTimeout: 500 * time.Millisecond,
		Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
			time.Sleep(time.Millisecond)
			handled.Add(1)
			_ = s.Reply(m, m.Payload)
		})}, Config{})
	const n = 100
	good := raw(t, srv.addr, nil, ALPN)
	s := open(t, good)
	stuck := raw(t, srv.addr, nil, ALPN) // reads nothing, finishes nothing
	send(t, open(t, stuck), request(t, 1, strings.Repeat("x", 900_000)))
	for i := range n {
		send(t, s, request(t, uint32(i), name(i)))
	}
	eventually(t, "the first requests", func() bool { return handled.Load() > 2 })
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), testPatience)
		defer cancel()
		done <- srv.Shutdown(ctx)
	}()
	got := 0
	for {
		m, err := next(s)
		if err != nil {
			break
		}
		if m.ID != uint32(got) {
			t.Fatalf("reply %d has id %d", got, m.ID)
		}
		got++
	}
	if int32(got) != handled.Load()-1 && int32(got) != handled.Load() || got < 2 {
		t.Fatalf("%d replies came, %d requests were handled", got, handled.Load())
	}
	_ = s.Close()
	expectCode(t, good, CodeGoingAway)
	expectCode(t, stuck, CodeGoingAway)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// TestAbortOverridesLinger: an orderly end that waits for its peer can be cut
// short.
func TestAbortOverridesLinger(t *testing.T) {
	var r recorder
	sessions := make(chan *engine.Session, 1)
	r.onMsg = func(s *engine.Session, m *framing.Message) {
		_ = s.Reply(m, make([]byte, 1<<19)) // more than the window of a peer that doesn't read
		s.Close()
		sessions <- s
	}
	srv := serve(t, engine.Config{Handler: &r, LingerTimeout: time.Hour}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	send(t, open(t, q), request(t, 1, ""))
	s := <-sessions
	time.Sleep(20 * time.Millisecond)
	s.Abort(engine.ErrRefused)
	expectCode(t, q, CodeRefused)
	if err := r.reason(t); !errors.Is(err, engine.ErrClosed) {
		t.Fatalf("OnClose got %v, want the first reason", err)
	}
}

// TestNoLinger: with a negative LingerTimeout Close waits for no peer.
func TestNoLinger(t *testing.T) {
	var r recorder
	r.onMsg = func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, make([]byte, 1<<19)); s.Close() }
	srv := serve(t, engine.Config{Handler: &r, LingerTimeout: -1}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	send(t, open(t, q), request(t, 1, ""))
	expectCode(t, q, CodeNone)
	r.reason(t)
}

// TestHazard12Cycles: closed connections leave no session and no socket.
func TestHazard12Cycles(t *testing.T) { eachDispatch(t, testHazard12Cycles) }

func testHazard12Cycles(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo}, Config{})
	c := newClient(t, engine.Config{Dispatch: d}, Config{})
	for i := range 100 {
		s := c.dial(t, srv.addr)
		_ = s.SendMessage(&framing.Message{Type: framing.Request, ID: uint32(i)})
		if i%2 == 0 {
			c.await(t, "the reply", func() bool { return len(c.got) > i/2 })
			s.Close()
		} else {
			s.Abort(nil)
		}
		c.await(t, "OnClose", func() bool { return len(c.closed) == i+1 })
	}
	eventually(t, "the server's sessions to end", func() bool { return srv.Stats().Active == 0 })
	sockets := &c.protocol.dialer
	sockets.mu.Lock()
	defer sockets.mu.Unlock()
	if sockets.v4 != nil || sockets.v6 != nil {
		t.Fatal("a socket for dialing is still open")
	}
}

// TestCloseFromACallback: the engine is closed by a callback of a QUIC session,
// which must return first: Close returns an error for that, and the closing is done
// after the callback.
func TestCloseFromACallback(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		returned := make(chan error, 1)
		srv := serve(t, engine.Config{Dispatch: d, ShutdownTimeout: 50 * time.Millisecond,
			Handler: engine.HandlerFunc(func(s *engine.Session, _ *framing.Message) { returned <- s.Engine().Close() })}, Config{})
		client := engine.New(engine.Config{Handler: engine.HandlerFunc(func(*engine.Session, *framing.Message) {})})
		defer func() { _ = client.Close() }()
		s, err := client.Dial(t.Context(), srv.addr, New(Config{TLS: trust(t)}))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Send([]byte("close")); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-returned:
			if !errors.Is(err, engine.ErrStillRunning) {
				t.Error(err)
			}
		case <-time.After(testPatience):
			t.Fatal("it hangs")
		}
		for end := time.Now().Add(testPatience); ; {
			if err := srv.Close(); err == nil {
				return
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
		}
	})
}
