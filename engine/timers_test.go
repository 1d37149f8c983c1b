package engine_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

func TestIdleTimeout(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(reply)
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, IdleTimeout: 1500 * time.Millisecond})
		c := dial(t, addr)
		start := time.Now()
		for range 4 {
			_, _ = c.Write(ping)
			expect(t, c, pong)
			time.Sleep(500 * time.Millisecond)
		}
		if err := j.reason(t); !errors.Is(err, engine.ErrIdleTimeout) {
			t.Fatal(err)
		}
		if d := time.Since(start); d < 3*time.Second {
			t.Fatalf("closed after %v though it was busy for 1.5 s and idle for less than that", d)
		}
	})
}

func TestNoIdleTimeoutByDefault(t *testing.T) {
	_, addr := serve(t, engine.Config{Handler: echo})
	c := dial(t, addr)
	time.Sleep(200 * time.Millisecond)
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

func TestHandshakeTimeout(t *testing.T) {
	j := newJournal(reply)
	e, addr := serve(t, engine.Config{Handler: j, HandshakeTimeout: 150 * time.Millisecond},
		hello{engine.Packets()}, engine.Packets())
	c := dial(t, addr)
	_, _ = c.Write([]byte("hel"))
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the count", func() bool { return e.Stats().Refused["handshake_timeout"] == 1 })
	if len(j.opened) > 0 {
		t.Fatal("opened before its handshake")
	}
	c = dial(t, addr)
	_, _ = c.Write([]byte("hello"))
	expect(t, c, []byte("welcome"))
	_, _ = c.Write(ping)
	expect(t, c, pong)
	time.Sleep(300 * time.Millisecond) // the deadline is over
	_, _ = c.Write(ping)
	expect(t, c, pong)
	if s := j.session(t); s.Transport() != "hello" {
		t.Fatal(s.Transport())
	}
}

func TestSilentConnectionBecomesAPacketSession(t *testing.T) {
	j := newJournal(reply)
	_, addr := serve(t, engine.Config{Handler: j, SniffTimeout: 100 * time.Millisecond},
		hello{engine.Packets()}, engine.Packets())
	c := dial(t, addr)
	s := j.session(t) // opened without a byte, so that the server may speak first
	_ = s.Send([]byte("welcome"))
	expect(t, c, unhex("01000000000000010000000000070000"+"77656c636f6d65"))
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

func TestSilentConnectionIsClosedWherePacketsAreNotSpoken(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, SniffTimeout: 100 * time.Millisecond},
		hello{engine.Packets()}, engine.Framed(framing.Line{}))
	c := dial(t, addr)
	if _, err := io.ReadAll(c); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the count", func() bool { return e.Stats().Refused["handshake_timeout"] == 1 })
}

// TestDeadlineOfASessionThatCameWhileTheLoopWasHeldUp: the loop is busy for longer
// than SniffTimeout; a peer that connects and speaks meanwhile must be served.
func TestDeadlineOfASessionThatCameWhileTheLoopWasHeldUp(t *testing.T) {
	const sniff, busy = 200 * time.Millisecond, 600 * time.Millisecond
	for range 10 {
		held := make(chan struct{}, 1)
		_, addr := serve(t, engine.Config{Cores: 1, Dispatch: engine.Inline, SniffTimeout: sniff,
			Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
				if string(m.Payload) == "hold" {
					held <- struct{}{}
					time.Sleep(busy)
				}
				_ = s.Reply(m, m.Payload)
			})}, hello{engine.Packets()}, engine.Packets())
		dial(t, addr) // silent, so that the wheel isn't empty
		first := dial(t, addr)
		_, _ = first.Write(packet(&framing.Message{Type: framing.Request, ID: 1, Payload: []byte("hold")}))
		<-held
		for range 5 {
			c := dial(t, addr)
			_, _ = c.Write([]byte("hello"))
			defer expect(t, c, []byte("welcome"))
		}
	}
}

// TestPartialTimeout: a message that is begun must be completed, or grow by 16 KiB,
// in PartialTimeout; a session that is silent between messages stays.
func TestPartialTimeout(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(reply)
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, PartialTimeout: 300 * time.Millisecond})
		c := dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		_, _ = c.Write(ping[:1])
		if err := j.reason(t); !errors.Is(err, engine.ErrPartialTimeout) || !engine.Retryable(err) {
			t.Fatal(err)
		}
	})
}

// TestLateTimersLetTheSocketsGoFirst holds the loop up in a task for longer than
// a session may be idle; its peer writes meanwhile. The timers are due in the
// task behind, and must wait until the sockets have had their turn.
func TestLateTimersLetTheSocketsGoFirst(t *testing.T) {
	const idle = 500 * time.Millisecond
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		held := &slowAccept{in: make(chan struct{}), out: make(chan struct{})}
		e, addr := serve(t, engine.Config{Handler: echo, Dispatch: d, Cores: 1, IdleTimeout: idle})
		l, err := e.Listen("127.0.0.1:0", held)
		if err != nil {
			t.Fatal(err)
		}
		c := dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		dial(t, l.Addr().String())
		<-held.in // the loop stands in Accept, which a task called
		_, _ = c.Write(ping)
		time.Sleep(2 * idle)
		close(held.out)
		expect(t, c, pong)
	})
}
