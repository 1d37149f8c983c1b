package client

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// nextEvent returns the client's next event, or fails the test.
func nextEvent(t *testing.T, c *Client) Event {
	t.Helper()
	got := make(chan Event, 1)
	go func() {
		for ev := range c.Events() {
			got <- ev
			return
		}
	}()
	return testkit.Receive(t, got, "an event")
}

func TestEvents(t *testing.T) {
	overAll(t, serve.Echo, func(t *testing.T, srv *server, url string) {
		c := dialClient(t, url)
		s := testkit.Receive(t, srv.opened, "the session")
		for i := range 100 {
			if err := c.SendMessage(&framing.Message{BizType: 3, Payload: []byte(fmt.Sprint(i))}); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 100 {
			ev := nextEvent(t, c)
			if ev.Kind != EventMessage || string(ev.Message.Payload) != fmt.Sprint(i) || ev.Message.Type != framing.OneWay ||
				ev.Message.BizType != 3 {
				t.Fatalf("event %d is %+v with %+v", i, ev, ev.Message)
			}
		}
		s.Close()
		if ev := nextEvent(t, c); ev.Kind != EventClosed || !errors.Is(ev.Err, engine.ErrPeerClosed) {
			t.Errorf("the last event is %+v, want EventClosed by the peer", ev)
		}
		for ev := range c.Events() {
			t.Errorf("%+v after EventClosed", ev)
		}
	})
}

// A message that the server sends at once, before a call of Events is possible, is
// the first event, even if the reader starts late.
func TestHazard02FirstMessage(t *testing.T) {
	h := engine.HandlerFuncs{Open: func(s *engine.Session) {
		s.Send([]byte("welcome"))
		s.Send([]byte("second"))
	}}
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		for i := range 10 {
			c := dialClient(t, url)
			if i%2 == 0 {
				time.Sleep(time.Millisecond) // long enough for the messages to come first, mostly
			}
			for _, want := range []string{"welcome", "second"} {
				if ev := nextEvent(t, c); ev.Kind != EventMessage || string(ev.Message.Payload) != want {
					t.Fatalf("connection %d: got %+v, want %q", i, ev, want)
				}
			}
			c.Close()
		}
	})
}

// A server that says something and closes at once: both arrive, however the
// Dial and the end of the session race.
func TestHazard02MessageThenClose(t *testing.T) {
	h := engine.HandlerFuncs{Open: func(s *engine.Session) {
		s.Send([]byte("go away"))
		s.Close()
	}}
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		for i := range 10 {
			c := dialClient(t, url)
			if ev := nextEvent(t, c); ev.Kind != EventMessage || string(ev.Message.Payload) != "go away" {
				t.Fatalf("connection %d: got %+v", i, ev)
			}
			if ev := nextEvent(t, c); ev.Kind != EventClosed || !errors.Is(ev.Err, engine.ErrPeerClosed) {
				t.Fatalf("connection %d: got %+v, want EventClosed", i, ev)
			}
			c.Close()
		}
	})
}

// A reader that is slow loses nothing and holds no more than its bound: the
// server's output waits at the server. The last event is the end.
func TestHazard06SlowReader(t *testing.T) {
	const messages, size = 12_000, 2048
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			srv := newServer(t, engine.HandlerFuncs{}, engine.Config{OutboxLimit: 64 << 20})
			c := dialClient(t, srv.url(transport))
			s := testkit.Receive(t, srv.opened, "the session")
			payload := make([]byte, size)
			for i := range uint32(messages) {
				binary.BigEndian.PutUint32(payload, i)
				if err := s.Send(payload); err != nil {
					t.Fatal(err)
				}
			}
			waitForFullInbox(t, c)
			for i := range uint32(messages) {
				ev := nextEvent(t, c)
				if ev.Kind != EventMessage || binary.BigEndian.Uint32(ev.Message.Payload) != i {
					t.Fatalf("event %d is %+v", i, ev)
				}
			}
			s.Close() // not before: a closing session waits for its reader only so long
			if ev := nextEvent(t, c); ev.Kind != EventClosed || !errors.Is(ev.Err, engine.ErrPeerClosed) {
				t.Errorf("the last event is %+v, want EventClosed by the peer", ev)
			}
		})
	}
}

// waitForFullInbox waits until the client has stopped reading, and checks that it
// stays within its bound, plus the messages that the engine had received by then.
func waitForFullInbox(t *testing.T, c *Client) {
	t.Helper()
	// A ring full at most, but with less overhead a message than an inbox counts.
	const received = 2 * engine.DefaultRingSize
	fill := func() int {
		c.inbox.mu.Lock()
		defer c.inbox.mu.Unlock()
		return c.inbox.bytes
	}
	testkit.Eventually(t, func() bool { return fill() >= DefaultMaxEventBytes }, "a full inbox")
	for range 20 { // while more would arrive, if the client read on
		time.Sleep(5 * time.Millisecond)
		if n := fill(); n > DefaultMaxEventBytes+received {
			t.Fatalf("%d bytes wait, want at most %d", n, DefaultMaxEventBytes+received)
		}
	}
}

// Responses after unread messages of a client that receives arrive as soon as those
// are read.
func TestRequestBehindUnreadMessages(t *testing.T) {
	const messages, size = 3000, 1024
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for range messages {
			s.Send(make([]byte, size))
		}
		s.Reply(m, []byte("behind"))
	})
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url)
		c.Events()
		answer := make(chan string, 1)
		go func() {
			b, err := c.Request(testkit.Context(t), nil)
			answer <- fmt.Sprint(string(b), err)
		}()
		waitForFullInbox(t, c)
		for range messages {
			nextEvent(t, c)
		}
		if got := testkit.Receive(t, answer, "the answer"); got != "behind<nil>" {
			t.Errorf("got %s", got)
		}
	})
}
