package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/mux"
)

func TestRequest(t *testing.T) {
	overAll(t, serve.Echo, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url)
		for _, payload := range []string{"hello", "", string(bytes.Repeat([]byte("x"), 300<<10))} {
			answer, err := c.Request(testkit.Context(t), []byte(payload))
			if err != nil || string(answer) != payload {
				t.Errorf("%d bytes came back as %d, %v", len(payload), len(answer), err)
			}
		}
		if err := c.Err(); err != nil {
			t.Errorf("Err is %v on an open client", err)
		}
	})
}

// The other fields of a message are sent and returned.
func TestRequestMessage(t *testing.T) {
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		reply := *m
		reply.Type = framing.Response
		s.SendMessage(&reply)
	})
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url)
		m, err := c.RequestMessage(testkit.Context(t), &framing.Message{BizType: 7, Ext: []byte("ext"), Payload: []byte("body")})
		if err != nil || m.BizType != 7 || string(m.Ext) != "ext" || string(m.Payload) != "body" {
			t.Errorf("got %+v, %v", m, err)
		}
		zipped := &framing.Message{Compression: framing.CompressionZstd, Payload: []byte("not really")}
		if m, err := c.RequestMessage(testkit.Context(t), zipped); err != nil || m.Compression != framing.CompressionZstd {
			t.Errorf("got %+v, %v", m, err)
		}
	})
}

func TestRequestErrors(t *testing.T) {
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		reply := framing.Message{Type: framing.Response, ID: m.ID, Stream: m.Stream}
		switch string(m.Payload) {
		case "fail":
			reply.Flags, reply.Payload = framing.FlagFailed, []byte("\x00\x07no")
		case "zip":
			reply.Compression, reply.Payload = framing.CompressionZlib, []byte("zipped")
		}
		s.SendMessage(&reply)
	})
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url)
		var remote *mux.RemoteError
		if _, err := c.Request(testkit.Context(t), []byte("fail")); !errors.As(err, &remote) || remote.Code != 7 || remote.Text != "no" {
			t.Errorf("got %v, want the server's failure", err)
		}
		if _, err := c.Request(testkit.Context(t), []byte("zip")); !errors.Is(err, ErrCompressed) {
			t.Errorf("got %v, want ErrCompressed", err)
		}
		if _, err := c.Request(testkit.Context(t), make([]byte, engine.DefaultMaxMessageSize+1)); !errors.Is(err, engine.ErrTooLarge) {
			t.Errorf("got %v, want ErrTooLarge", err)
		}
	})
}

func TestAnswersOutOfOrder(t *testing.T) {
	const requests = 50
	got := make(chan *framing.Message, requests)
	h := engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) { got <- m.Clone() })
	overAll(t, h, func(t *testing.T, srv *server, url string) {
		c := dialClient(t, url)
		var wg sync.WaitGroup
		for i := range requests {
			wg.Go(func() {
				want := fmt.Sprint("number ", i)
				answer, err := c.Request(testkit.Context(t), []byte(want))
				if err != nil || string(answer) != want {
					t.Errorf("%s got %q, %v", want, answer, err)
				}
			})
		}
		s := testkit.Receive(t, srv.opened, "the session")
		var asked []*framing.Message
		for range requests {
			asked = append(asked, testkit.Receive(t, got, "a request"))
		}
		for i := range asked { // the last one first
			m := asked[len(asked)-1-i]
			if err := s.Reply(m, m.Payload); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
	})
}

// Both sides ask, under equal ids, at the same time; each answer reaches its
// own caller.
func TestHazard07BothDirections(t *testing.T) {
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		s.Reply(m, append([]byte("server: "), m.Payload...))
	})
	overAll(t, h, func(t *testing.T, srv *server, url string) {
		c := dialClient(t, url)
		s := testkit.Receive(t, srv.opened, "the session")
		go func() {
			for ev := range c.Events() {
				if ev.Kind == EventMessage {
					c.Reply(ev.Message, append([]byte("client: "), ev.Message.Payload...))
				}
			}
		}()
		var wg sync.WaitGroup
		for caller := range 4 {
			wg.Go(func() {
				for i := range 50 {
					payload := fmt.Sprintf("%d/%d", caller, i)
					answer, err := c.Request(testkit.Context(t), []byte(payload))
					if err != nil || string(answer) != "server: "+payload {
						t.Errorf("%s got %q, %v", payload, answer, err)
					}
				}
			})
			wg.Go(func() {
				for i := range 50 {
					payload := fmt.Sprintf("%d/%d", caller, i)
					m, err := srv.mux.Request(testkit.Context(t), s, []byte(payload))
					if err != nil || string(m.Payload) != "client: "+payload {
						t.Errorf("%s got %+v, %v", payload, m, err)
					}
				}
			})
		}
		wg.Wait()
	})
}

// Pending requests end with the connection, with a definite error, although
// their own context never ends.
func TestHazard07ConnectionEndsRequests(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(c *Client, s *engine.Session)
		want error
	}{
		{"the server closes", func(_ *Client, s *engine.Session) { s.Close() }, engine.ErrPeerClosed},
		{"the server aborts", func(_ *Client, s *engine.Session) { s.Abort(engine.ErrClosed) }, nil},
		{"the server's engine closes", func(_ *Client, s *engine.Session) { s.Engine().Close() }, nil},
		{"the client closes", func(c *Client, _ *engine.Session) { c.Close() }, engine.ErrClosed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const requests = 5
			got := make(chan struct{}, requests)
			h := engine.HandlerFunc(func(*engine.Session, *framing.Message) { got <- struct{}{} })
			overAll(t, h, func(t *testing.T, srv *server, url string) {
				c := dialClient(t, url)
				results := make(chan error, requests)
				for range requests {
					go func() {
						_, err := c.Request(context.Background(), nil)
						results <- err
					}()
				}
				s := testkit.Receive(t, srv.opened, "the session")
				for range requests {
					testkit.Receive(t, got, "a request")
				}
				tc.end(c, s)
				testkit.Receive(t, c.Done(), "Done")
				if c.Err() == nil {
					t.Error("Err is nil on an ended client")
				}
				for range requests {
					err := testkit.Receive(t, results, "the end of a request")
					if err == nil || !errors.Is(err, c.Err()) || (tc.want != nil && !errors.Is(err, tc.want)) {
						t.Errorf("a request ended with %v, the client with %v, want %v", err, c.Err(), tc.want)
					}
				}
				if _, err := c.Request(context.Background(), nil); err == nil {
					t.Error("a request on an ended client succeeded")
				}
				if err := c.Send(nil); err == nil {
					t.Error("Send on an ended client succeeded")
				}
			})
		})
	}
}

// Messages sent before Close arrive, although the server doesn't read yet when
// Close is called and most of it still waits in the client.
func TestHazard15CloseFlushes(t *testing.T) {
	const messages, size = 2000, 2000
	type end struct {
		count  int
		reason error
	}
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			ended := make(chan end, 1)
			count := 0 // of the one session, whose callbacks never overlap
			srv := newServer(t, engine.HandlerFuncs{
				Open:    func(s *engine.Session) { s.Pause() },
				Message: func(*engine.Session, *framing.Message) { count++ },
				Close:   func(_ *engine.Session, reason error) { ended <- end{count, reason} },
			}, engine.Config{})
			c := dialClient(t, srv.url(transport))
			s := testkit.Receive(t, srv.opened, "the session")
			for range messages {
				if err := c.Send(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
			}
			closed := make(chan error, 1)
			go func() { closed <- c.Close() }()
			testkit.Eventually(t, func() bool { return c.Err() != nil }, "a closing client")
			s.Resume()
			if err := testkit.Receive(t, closed, "the end of Close"); err != nil {
				t.Error(err)
			}
			if !errors.Is(c.Err(), engine.ErrClosed) {
				t.Errorf("Err is %v after Close, want ErrClosed", c.Err())
			}
			got := testkit.Receive(t, ended, "the server's OnClose")
			if got.count != messages || !errors.Is(got.reason, engine.ErrPeerClosed) {
				t.Errorf("the server got %d messages of %d, and %v", got.count, messages, got.reason)
			}
			if err := c.Close(); err != nil {
				t.Errorf("the second Close: %v", err)
			}
		})
	}
}

// Closing a client whose inbox is full neither hangs nor loses its messages.
func TestCloseWithFullInbox(t *testing.T) {
	h := engine.HandlerFunc(func(s *engine.Session, _ *framing.Message) {
		for range 3000 {
			s.Send(make([]byte, 1024))
		}
	})
	overAll(t, h, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url)
		sequence := c.Events()
		if err := c.Send(nil); err != nil {
			t.Fatal(err)
		}
		waitForFullInbox(t, c)
		c.Close()
		events, last := 0, Event{}
		for last = range sequence {
			events++
		}
		if events < DefaultMaxEventBytes/(1024+eventOverhead) || last.Kind != EventClosed || !errors.Is(last.Err, engine.ErrClosed) {
			t.Errorf("%d events after Close, the last %+v", events, last)
		}
	})
}

// A client that has much to write still reads, so that a server which answers
// much can go on: neither waits for the other (hazard 11).
func TestHazard11BothWriteMuch(t *testing.T) {
	payload := bytes.Repeat([]byte("much "), 20<<10)
	overAll(t, serve.Echo, func(t *testing.T, _ *server, url string) {
		c := dialClient(t, url)
		var wg sync.WaitGroup
		for range 120 { // more bytes than the sockets hold, fewer than the outbox may
			wg.Go(func() {
				answer, err := c.Request(testkit.Context(t), payload)
				if err != nil || !bytes.Equal(answer, payload) {
					t.Errorf("got %d bytes, %v", len(answer), err)
				}
			})
		}
		wg.Wait()
	})
}
