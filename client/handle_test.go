package client

import (
	"errors"
	"fmt"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// Callbacks come in order, may ask, and the sequence of events stays empty.
func TestWithHandler(t *testing.T) {
	h := engine.HandlerFuncs{
		Open:    func(s *engine.Session) { s.Send([]byte("welcome")) },
		Message: func(s *engine.Session, m *framing.Message) { s.Reply(m, m.Payload) },
	}
	overAll(t, h, func(t *testing.T, srv *server, url string) {
		seen := make(chan string, 10)
		dialed := make(chan *Client, 1)
		c := dialClient(t, url, WithHandler(engine.HandlerFuncs{
			Open: func(s *engine.Session) { seen <- "open " + s.Transport() },
			Message: func(_ *engine.Session, m *framing.Message) {
				c := <-dialed
				answer, err := c.Request(testkit.Context(t), []byte("from the callback"))
				seen <- fmt.Sprintf("%s, %s, %v", m.Payload, answer, err)
			},
			Close: func(_ *engine.Session, reason error) {
				seen <- fmt.Sprint("close ", errors.Is(reason, engine.ErrPeerClosed))
			},
		}))
		dialed <- c
		transport := c.Session().Transport()
		for _, want := range []string{"open " + transport, "welcome, from the callback, <nil>"} {
			if got := testkit.Receive(t, seen, want); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		for ev := range c.Events() {
			t.Errorf("a client with a handler has the event %+v", ev)
		}
		testkit.Receive(t, srv.opened, "the session").Close()
		if got := testkit.Receive(t, seen, "close"); got != "close true" {
			t.Errorf("got %q", got)
		}
	})
}

// A handler that discards lets answers through, however much comes before them.
func TestDiscardingHandler(t *testing.T) {
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for range 3000 {
			s.Send(make([]byte, 1024))
		}
		s.Reply(m, m.Payload)
	})
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url, WithHandler(engine.HandlerFuncs{}))
		if answer, err := c.Request(testkit.Context(t), []byte("x")); err != nil || string(answer) != "x" {
			t.Errorf("got %q, %v", answer, err)
		}
	})
}

// A panic in a callback ends the session with the panic's value, and nothing else.
func TestHazard19HandlerPanics(t *testing.T) {
	h := engine.HandlerFuncs{
		Open:    func(s *engine.Session) { s.Send([]byte("one")); s.Send([]byte("two")) },
		Message: func(s *engine.Session, m *framing.Message) { s.Reply(m, m.Payload) },
	}
	overAll(t, h, func(t *testing.T, srv *server, url string) {
		other := dialClient(t, url)
		messages, closed := make(chan string, 10), make(chan error, 1)
		c := dialClient(t, url, WithHandler(engine.HandlerFuncs{
			Message: func(_ *engine.Session, m *framing.Message) {
				messages <- string(m.Payload)
				panic("boom")
			},
			Close: func(_ *engine.Session, reason error) { closed <- reason },
		}))
		reason := testkit.Receive(t, closed, "OnClose")
		var p *engine.PanicError
		if !errors.Is(reason, engine.ErrHandlerPanic) || !errors.As(reason, &p) || p.Value != "boom" || len(p.Stack) == 0 {
			t.Errorf("OnClose got %v, want the panic", reason)
		}
		testkit.Receive(t, c.Done(), "Done")
		if !errors.Is(c.Err(), engine.ErrHandlerPanic) {
			t.Errorf("Err is %v, want the panic", c.Err())
		}
		if len(messages) != 1 {
			t.Errorf("%d messages were handled, want none after the panic", len(messages))
		}
		if _, err := other.Request(testkit.Context(t), nil); err != nil {
			t.Errorf("another client: %v", err)
		}
	})
}

// A panic in OnClose has no session to end any more; it joins Err, however the two
// race.
func TestHazard19OnClosePanics(t *testing.T) {
	srv := newServer(t, serve.Echo, engine.Config{})
	for range 200 {
		c := dialClient(t, srv.url("tcp"), WithHandler(engine.HandlerFuncs{
			Close: func(*engine.Session, error) { panic("boom") },
		}))
		testkit.Receive(t, srv.opened, "the session")
		c.Close()
		testkit.Eventually(t, func() bool { return errors.Is(c.Err(), engine.ErrHandlerPanic) }, "the panic in Err")
		if !errors.Is(c.Err(), engine.ErrClosed) {
			t.Fatalf("Err is %v, and lost why the session ended", c.Err())
		}
	}
}
