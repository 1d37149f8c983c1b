package client

import (
	"context"
	"encoding/binary"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// A client that only asks gets its answers, although unread messages come before them.
// The messages that do not fit are dropped and counted, and the first ones stay for a
// later reader.
func TestRequestPastUnreadMessages(t *testing.T) {
	const requests, messages, size = 3, 2000, 1024
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for range messages {
			s.Send(make([]byte, size))
		}
		s.Reply(m, m.Payload)
	})
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url)
		for range requests {
			if answer, err := c.Request(testkit.Context(t), []byte("x")); err != nil || string(answer) != "x" {
				t.Fatalf("got %q, %v", answer, err)
			}
		}
		c.Close()
		kept := 0
		for ev := range c.Events() {
			if ev.Kind == EventMessage {
				kept++
			}
		}
		if bound := DefaultMaxEventBytes/(size+eventOverhead) + 1; kept != bound {
			t.Errorf("%d messages were kept, want %d", kept, bound)
		}
		if n := c.DroppedEvents(); n != uint64(requests*messages-kept) {
			t.Errorf("%d of %d messages were kept, and %d dropped", kept, requests*messages, n)
		}
	})
}

// Before its first use a client only stops reading: it may be one that receives. The
// first request ends that.
func TestRequestAfterPause(t *testing.T) {
	h := engine.HandlerFuncs{
		Open: func(s *engine.Session) {
			for range 3000 {
				s.Send(make([]byte, 1024))
			}
		},
		Message: func(s *engine.Session, m *framing.Message) { s.Reply(m, m.Payload) },
	}
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url)
		waitForFullInbox(t, c)
		if n := c.DroppedEvents(); n != 0 {
			t.Errorf("%d messages were dropped before the first use", n)
		}
		if answer, err := c.Request(testkit.Context(t), []byte("x")); err != nil || string(answer) != "x" {
			t.Errorf("got %q, %v", answer, err)
		}
		if c.DroppedEvents() == 0 {
			t.Error("nothing was dropped")
		}
	})
}

// Send and SendMessage count as a use, Events and Receive prevent drops.
func TestInboxUses(t *testing.T) {
	r := &countingReader{}
	b := newInbox(r, 10*eventOverhead)
	fill := func() {
		for range 20 {
			b.push(&framing.Message{})
		}
	}
	fill()
	if r.pauses != 1 || b.dropped.Load() != 0 {
		t.Errorf("unused: %d pauses, %d dropped", r.pauses, b.dropped.Load())
	}
	b.send()
	fill()
	if r.pauses != 1 || r.resumes != 1 || b.dropped.Load() != 20 {
		t.Errorf("sends: %d pauses, %d resumes, %d dropped", r.pauses, r.resumes, b.dropped.Load())
	}
	b.read()
	fill()
	b.send()
	if r.pauses != 2 || r.resumes != 1 || b.dropped.Load() != 20 {
		t.Errorf("reads: %d pauses, %d resumes, %d dropped", r.pauses, r.resumes, b.dropped.Load())
	}
	srv := newServer(t, serve.Echo, engine.Config{})
	for name, call := range map[string]func(c *Client) (use, error){
		"Send":        func(c *Client) (use, error) { return sends, c.Send(nil) },
		"SendMessage": func(c *Client) (use, error) { return sends, c.SendMessage(&framing.Message{}) },
		"Events":      func(c *Client) (use, error) { c.Events(); return reads, nil },
	} {
		c := dialClient(t, srv.url("tcp"))
		want, err := call(c)
		if c.inbox.use != want || err != nil {
			t.Errorf("%s: use %d, want %d; %v", name, c.inbox.use, want, err)
		}
	}
	if c := dialClient(t, srv.url("tcp"), WithHandler(engine.HandlerFuncs{})); c.inbox.use != reads {
		t.Errorf("with a handler: use %d", c.inbox.use)
	}
}

// A receiver that waits ends with its context, and takes no message from another one.
func TestReceiveEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newInbox(&countingReader{}, DefaultMaxEventBytes)
		ctx, cancel := context.WithCancelCause(t.Context())
		cause := errors.New("the cause")
		ended, received := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := b.receive(ctx)
			ended <- err
		}()
		go func() {
			_, err := b.receive(t.Context())
			received <- err
		}()
		synctest.Wait()
		cancel(cause)
		if err := <-ended; err != cause {
			t.Errorf("got %v, want the context's cause", err)
		}
		b.push(&framing.Message{})
		if err := <-received; err != nil {
			t.Error(err)
		}
		if _, err := b.receive(ctx); err != cause {
			t.Errorf("got %v, want the context's cause", err)
		}
	})
}

func TestReceive(t *testing.T) {
	const messages = 100
	overAll(t, serve.Echo, func(t *testing.T, srv *server, url string) {
		c := dialClient(t, url)
		s := testkit.Receive(t, srv.opened, "the session")
		for i := range uint32(messages) {
			if err := c.Send(binary.BigEndian.AppendUint32(nil, i)); err != nil {
				t.Fatal(err)
			}
		}
		for i := range uint32(messages) {
			m, err := c.Receive(testkit.Context(t))
			if err != nil || binary.BigEndian.Uint32(m.Payload) != i {
				t.Fatalf("message %d is %+v, %v", i, m, err)
			}
		}
		s.Close()
		for range 2 {
			if _, err := c.Receive(testkit.Context(t)); !errors.Is(err, engine.ErrPeerClosed) {
				t.Errorf("got %v, want the close reason", err)
			}
		}
	})
	srv := newServer(t, serve.Echo, engine.Config{})
	c := dialClient(t, srv.url("tcp"), WithHandler(engine.HandlerFuncs{}))
	if _, err := c.Receive(testkit.Context(t)); !errors.Is(err, errHasHandler) {
		t.Errorf("with a handler: %v", err)
	}
}
