package engine_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// journal is a Handler that notes its callbacks and closes with their reasons.
type journal struct {
	engine.HandlerFuncs
	reasons chan error
	opened  chan *engine.Session
}

func newJournal(onMessage func(*engine.Session, *framing.Message)) *journal {
	j := &journal{reasons: make(chan error, 1000), opened: make(chan *engine.Session, 1000)}
	j.HandlerFuncs = engine.HandlerFuncs{
		Open:    func(s *engine.Session) { j.opened <- s },
		Message: onMessage,
		Close:   func(_ *engine.Session, reason error) { j.reasons <- reason },
	}
	return j
}

func (j *journal) reason(t testing.TB) error {
	t.Helper()
	select {
	case err := <-j.reasons:
		return err
	case <-time.After(20 * time.Second):
		t.Fatal("no OnClose")
		return nil
	}
}

func (j *journal) session(t testing.TB) *engine.Session {
	t.Helper()
	select {
	case s := <-j.opened:
		return s
	case <-time.After(20 * time.Second):
		t.Fatal("no OnOpen")
		return nil
	}
}

func reply(s *engine.Session, m *framing.Message) { _ = s.Reply(m, m.Payload) }

func TestHazard15HalfClosedPeerGetsItsReplies(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(reply)
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d})
		c := dial(t, addr)
		_, _ = c.Write(bytes.Repeat(ping, 1000))
		_ = c.CloseWrite()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, bytes.Repeat(pong, 1000)) {
			t.Fatalf("%d bytes of %d, %v", len(got), 1000*len(pong), err)
		}
		if err := j.reason(t); !errors.Is(err, engine.ErrPeerClosed) {
			t.Fatal(err)
		}
	})
}

func TestHalfCloseWaitsForHeldReplies(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			s.Hold()
			m = m.Clone()
			go func() {
				time.Sleep(50 * time.Millisecond)
				_ = s.Reply(m, m.Payload)
				s.Release()
			}()
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d})
		c := dial(t, addr)
		_, _ = c.Write(ping)
		_ = c.CloseWrite()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, pong) {
			t.Fatalf("%x, %v", got, err)
		}
		j.reason(t)
	})
}

func TestHazard15CloseFlushesWhatWasQueued(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		big := bytes.Repeat([]byte("x"), 100_000)
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			for range 30 {
				_ = s.Send(big)
			}
			s.Close()
			if err := s.Send(big); !errors.Is(err, engine.ErrClosed) || !errors.Is(err, net.ErrClosed) {
				t.Errorf("Send after Close: %v", err)
			}
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, LingerTimeout: 10 * time.Second})
		c := dial(t, addr)
		_, _ = c.Write(ping)
		time.Sleep(20 * time.Millisecond) // let the socket fill
		got, err := io.ReadAll(c)
		if want := 30 * (framing.PacketHeaderSize + len(big)); err != nil || len(got) != want {
			t.Fatalf("%d bytes of %d, %v", len(got), want, err)
		}
		_ = c.Close()
		if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
			t.Fatal(err)
		}
	})
}

func TestLingerEndsAtAPeerThatDoesNotRead(t *testing.T) {
	j := newJournal(func(s *engine.Session, _ *framing.Message) {
		for s.Send(make([]byte, 1<<20)) == nil {
			if s.Engine().Stats().BytesOut > 2<<20 {
				break
			}
		}
		s.Close()
	})
	_, addr := serve(t, engine.Config{Handler: j, LingerTimeout: 100 * time.Millisecond, OutboxLimit: 64 << 20})
	c := dial(t, addr)
	_, _ = c.Write(ping)
	if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
		t.Fatal(err)
	}
}

func TestAbortDropsTheConnection(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		why := errors.New("enough")
		j := newJournal(func(s *engine.Session, m *framing.Message) { s.Abort(why) })
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d})
		c := dial(t, addr)
		_, _ = c.Write(ping)
		if err := j.reason(t); err != why {
			t.Fatal(err)
		}
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("still open")
		}
	})
}

func TestHazard19PanicEndsItsSessionOnly(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			if string(m.Payload) == "boom" {
				panic("boom")
			}
			reply(s, m)
		})
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1})
		good, bad := dial(t, addr), dial(t, addr)
		_, _ = bad.Write(packet(&framing.Message{Payload: []byte("boom")}))
		err := j.reason(t)
		var p *engine.PanicError
		if !errors.Is(err, engine.ErrHandlerPanic) || !errors.As(err, &p) || p.Value != "boom" || len(p.Stack) == 0 {
			t.Fatal(err)
		}
		_, _ = good.Write(ping)
		expect(t, good, pong)
		if st := e.Stats(); st.Panics != 1 || st.Closed["handler_panic"] != 1 {
			t.Fatalf("%+v", st)
		}
	})
}

func TestPanicInOnOpenAndOnClose(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		var opens atomic.Int32
		h := engine.HandlerFuncs{
			Open: func(*engine.Session) {
				if opens.Add(1) == 1 {
					panic("open")
				}
			},
			Message: reply,
			Close:   func(*engine.Session, error) { panic("close") },
		}
		e, addr := serve(t, engine.Config{Handler: h, Dispatch: d, Cores: 1})
		c := dial(t, addr)
		_, _ = c.Write(ping)
		_, _ = io.ReadAll(c)
		_ = c.Close()
		c = dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		_ = c.Close()
		for e.Stats().Active > 0 || e.Stats().Panics != 3 {
			time.Sleep(time.Millisecond)
		}
	})
}

func TestPeerResetIsConnectionLost(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(reply)
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d})
		c := dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		_ = c.SetLinger(0)
		_ = c.Close()
		if err := j.reason(t); !errors.Is(err, engine.ErrConnectionLost) || !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
	})
}

func TestEndInsideAMessage(t *testing.T) {
	j := newJournal(reply)
	_, addr := serve(t, engine.Config{Handler: j})
	c := dial(t, addr)
	_, _ = c.Write(ping[:10])
	_ = c.CloseWrite()
	if err := j.reason(t); !errors.Is(err, engine.ErrPeerClosed) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
}

func TestHazard16ShutdownSendsQueuedReplies(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		entered := make(chan struct{}, 1)
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			select {
			case entered <- struct{}{}:
				time.Sleep(100 * time.Millisecond) // the rest waits in the ring meanwhile
			default:
			}
			reply(s, m)
		})
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1})
		c := dial(t, addr)
		_, _ = c.Write(bytes.Repeat(ping, 500))
		<-entered
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		done := make(chan error)
		go func() { done <- e.Shutdown(ctx) }()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, bytes.Repeat(pong, 500)) {
			t.Fatalf("%d bytes of %d, %v", len(got), 500*len(pong), err)
		}
		_ = c.Close()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := j.reason(t); !errors.Is(err, engine.ErrShutdown) || !errors.Is(err, engine.ErrClosed) {
			t.Fatal(err)
		}
		if _, err := net.Dial("tcp", addr); err == nil {
			t.Fatal("still accepting")
		}
	})
}

func TestHazard16ShutdownEndsAtAPeerThatDoesNotRead(t *testing.T) {
	j := newJournal(func(s *engine.Session, _ *framing.Message) {
		_ = s.Send(make([]byte, 1<<20))
		_ = s.Send(make([]byte, 1<<20))
		_ = s.Send(make([]byte, 1<<20))
	})
	e, addr := serve(t, engine.Config{Handler: j, OutboxLimit: 64 << 20, LingerTimeout: time.Minute})
	c := dial(t, addr)
	_ = c.SetReadBuffer(4096)
	_, _ = c.Write(bytes.Repeat(ping, 3))
	for e.Stats().MessagesOut == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if err := e.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestCloseFromManyGoroutinesEndsOnce(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(reply)
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d})
		for range 50 {
			c := dial(t, addr)
			_, _ = c.Write(ping)
			s := j.session(t)
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					_ = s.Send([]byte("x"))
					if i%2 == 0 {
						s.Close()
					} else {
						s.Abort(nil)
					}
				})
			}
			wg.Wait()
			if err := j.reason(t); !errors.Is(err, engine.ErrClosed) && !errors.Is(err, engine.ErrConnectionLost) {
				t.Fatal(err)
			}
		}
		for e.Stats().Active > 0 {
			time.Sleep(time.Millisecond)
		}
		if len(j.reasons) > 0 {
			t.Fatal("more than one OnClose")
		}
	})
}

// TestHazard14WriteNeverReachesAStranger closes sessions while others write to
// them and new connections take over their descriptors: no connection may ever
// read another session's bytes.
func TestHazard14WriteNeverReachesAStranger(t *testing.T) {
	var open sync.Map
	h := engine.HandlerFuncs{
		Message: func(s *engine.Session, m *framing.Message) {
			_ = s.Reply(m, m.Payload)
			name := string(m.Payload)
			open.Store(s.ID(), s)
			go func() {
				for s.Send([]byte(name)) == nil {
				}
			}()
			time.AfterFunc(time.Millisecond, func() { s.Abort(nil) })
		},
		Close: func(s *engine.Session, _ error) { open.Delete(s.ID()) },
	}
	_, addr := serve(t, engine.Config{Handler: h, OutboxLimit: 1 << 20, MaxMessageSize: 1 << 10})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 50 {
				name := []byte{byte('a' + w), byte(i), byte(i >> 8)}
				c, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = c.Write(packet(&framing.Message{Payload: name}))
				got, _ := io.ReadAll(io.LimitReader(c, 1<<20))
				_ = c.Close()
				for len(got) > 0 {
					var m framing.Message
					n, err := framing.Packet{}.Decode(got, 0, 1<<10, &m)
					if err != nil {
						t.Errorf("stream of %x: %v", name, err)
						return
					}
					if n == 0 {
						break // cut off by Abort
					}
					if !bytes.Equal(m.Payload, name) {
						t.Errorf("connection %x read %x", name, m.Payload)
						return
					}
					got = got[n:]
				}
			}
		})
	}
	wg.Wait()
}

// TestMessagesBeforeAResetAreHandled has a peer that sends messages and closes without
// reading its replies: writing to it fails, but its messages are handled.
func TestMessagesBeforeAResetAreHandled(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		const n = 3000
		var count atomic.Int64
		check := inOrder(t, &count)
		start := make(chan struct{})
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			<-start
			check(s, m)
			_ = s.Reply(m, m.Payload)
			if m.ID%100 == 0 {
				time.Sleep(time.Millisecond) // the reset finds messages on their way
			}
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1, ReadBufferSize: 8 << 10, RingSize: 64 << 10})
		c := dial(t, addr)
		if _, err := c.Write(numbered(n, 20)); err != nil {
			t.Fatal(err)
		}
		close(start)
		time.Sleep(3 * time.Millisecond)
		_ = c.Close() // with replies unread: a reset
		if err := j.reason(t); !errors.Is(err, engine.ErrConnectionLost) && !errors.Is(err, engine.ErrPeerClosed) {
			t.Fatal(err)
		}
		if count.Load() != n {
			t.Fatalf("%d of %d messages were handled", count.Load(), n)
		}
	})
}

// TestNoMessageBehindClose closes a session in OnOpen, when its first messages
// have come already.
func TestNoMessageBehindClose(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		var messages atomic.Int32
		j := newJournal(func(*engine.Session, *framing.Message) { messages.Add(1) })
		j.Open = func(s *engine.Session) { s.Close() }
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1}, hello{engine.Packets()}, engine.Packets())
		c := dial(t, addr)
		_, _ = c.Write(bytes.Repeat(ping, 3))
		if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
			t.Fatal(err)
		}
		if n := messages.Load(); n > 0 {
			t.Errorf("%d messages behind Close", n)
		}
	})
}

// TestNoMessageBehindCloseOfAnotherSession closes a session from a callback of
// another one of its core, while its messages wait in the socket.
func TestNoMessageBehindCloseOfAnotherSession(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		victim, entered, sent := make(chan *engine.Session, 1), make(chan struct{}), make(chan struct{})
		var late atomic.Int32
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			switch string(m.Payload) {
			case "kill":
				close(entered)
				<-sent
				(<-victim).Close()
			default:
				late.Add(1)
			}
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1})
		a := dial(t, addr)
		j.session(t)
		b := dial(t, addr)
		victim <- j.session(t)
		_, _ = a.Write(packet(&framing.Message{Payload: []byte("kill")}))
		<-entered
		_, _ = b.Write(ping)
		time.Sleep(50 * time.Millisecond)
		close(sent)
		if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
			t.Fatal(err)
		}
		if n := late.Load(); n > 0 {
			t.Errorf("%d messages behind Close", n)
		}
	})
}
