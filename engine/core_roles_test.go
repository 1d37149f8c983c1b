package engine

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/reactor"
	"github.com/millrace/millrace/internal/testkit"
)

// onTakeOver opens a session whose worker reads. In the callback of its first message, f
// runs on the core's reader.
func onTakeOver(t *testing.T, f func(f *fakeSession, m *framing.Message)) (s *fakeSession, handled *int) {
	t.Helper()
	handled = new(int)
	within := false
	s = newSharedSession(t, Config{RingSize: minRingSize, Logger: discardLogger(), Handler: HandlerFunc(func(_ *Session, msg *framing.Message) {
		if within {
			t.Error("two callbacks at a time")
		}
		if *handled++; *handled > 1 {
			return
		}
		within = true
		defer func() { within = false }()
		s.core.stuck.Store(s.core.roles.Load())
		if !s.core.takeOver() {
			t.Fatal("the reader did not take over")
		}
		f(s, msg)
		s.core.giveBack()
	})}, Packets())
	s.run()
	return s, handled
}

// sendPackets sends count packets in one read, and runs the core.
func (f *fakeSession) sendPackets(count int) {
	var b []byte
	for id := range count {
		b, _ = framing.AppendPacket(b, &framing.Message{ID: uint32(id), Payload: payload(uint32(id), 100)})
	}
	f.send(b)
	f.run()
}

// TestReaderLeavesTheHandledSessionAlone aborts, shuts down or ends a session while its
// callback runs and the reader has taken over.
func TestReaderLeavesTheHandledSessionAlone(t *testing.T) {
	const count = 3
	for name, c := range map[string]struct {
		end     func(f *fakeSession)
		handled int
		reason  error
	}{
		"abort":    {func(f *fakeSession) { f.conn.session.Abort(nil) }, 1, ErrClosed},
		"shutdown": {func(f *fakeSession) { _ = f.core.loop.Trigger(shutdownTask, f.core) }, count, ErrShutdown},
		"input": {func(f *fakeSession) {
			more, _ := framing.AppendPacket(nil, &framing.Message{ID: count, Payload: make([]byte, 100)})
			f.send(more)
		}, count + 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f, handled := onTakeOver(t, func(f *fakeSession, msg *framing.Message) {
				c.end(f)
				for f.step() {
				}
				if f.closed > 0 || f.conn.stage == stageGone {
					t.Error("closed under the callback")
				}
				if f.cut != (name == "abort") {
					t.Error("the peer sees the end: ", f.cut)
				}
				if !bytes.Equal(msg.Payload, payload(0, 100)) {
					t.Error("the payload has changed")
				}
			})
			f.sendPackets(count)
			if err := f.conn.session.Err(); *handled != c.handled || !errors.Is(err, c.reason) {
				t.Errorf("%d messages, ended by %v", *handled, err)
			}
			if name == "abort" && f.closed != 1 {
				t.Errorf("closed %d times", f.closed)
			}
		})
	}
}

// neighbour opens another session on f's core. f.in is then the input of either.
func (f *fakeSession) neighbour() *socketConn {
	e := f.engine
	l := f.conn.session.listener
	if e.admit(l, netip.MustParseAddr("127.0.0.1")) != nil || !e.admission.beginHandshake(0) || !e.beginSession() {
		f.t.Fatal("not admitted")
	}
	_, c := newSocketSession(e, l, -1, f.conn.session.remote)
	c.stage = stageTLSOrPlain
	_ = attachTask(c)
	return c
}

// TestReaderServesTheNeighbours reads from other sessions while a callback runs: their
// messages wait in the ring, their bytes go to another buffer, and their ends free them.
func TestReaderServesTheNeighbours(t *testing.T) {
	whole, _ := framing.AppendPacket(nil, &framing.Message{ID: 1, Payload: make([]byte, 100)})
	var idle, busy *socketConn
	f, handled := onTakeOver(t, func(f *fakeSession, msg *framing.Message) {
		f.in = whole
		busy.OnEvent(reactor.Readable)
		if f.core.ring.Empty() {
			t.Error("the neighbour's message is not in the ring")
		}
		idle.endBehindMessages(ErrIdleTimeout)
		if idle.tail != nil {
			t.Error("an ending session holds its input")
		}
		if !bytes.Equal(msg.Payload, payload(0, 100)) {
			t.Error("the payload has changed")
		}
	})
	reactorConn := f.fakeLoop.conn
	idle, busy = f.neighbour(), f.neighbour()
	f.fakeLoop.conn = reactorConn
	f.run()
	f.in = whole[:30]
	idle.OnEvent(reactor.Readable)
	f.sendPackets(2)
	if *handled != 3 || idle.session.closing.Load() != closingAll {
		t.Errorf("%d of 3 messages were handled, the end came %d", *handled, idle.session.closing.Load())
	}
}

// TestStalledSessionsDoNotWaitForACallback resumes two stalled sessions: the callback of
// the one must find the other resumed.
func TestStalledSessionsDoNotWaitForACallback(t *testing.T) {
	var other *socketConn
	f, handled := onTakeOver(t, func(*fakeSession, *framing.Message) {
		if other.backlog&waiting != 0 {
			t.Error("a stalled session waits for the callback")
		}
	})
	first := f.fakeLoop.conn
	other = f.neighbour()
	f.fakeLoop.conn = first
	f.run()
	f.in, _ = framing.AppendPacket(nil, &framing.Message{Payload: make([]byte, 100)})
	f.core.stalled.Store(true)
	f.conn.OnEvent(reactor.Readable)
	f.core.stalled.Store(true)
	other.OnEvent(reactor.Readable)
	f.run()
	if *handled != 1 {
		t.Errorf("%d messages were handled", *handled)
	}
}

// TestWatchSleepsWithTheEngine expects the watch to sleep when nothing happens, and to
// wake up for the next callback.
func TestWatchSleepsWithTheEngine(t *testing.T) {
	e := New(Config{Cores: 1, Handler: HandlerFunc(func(*Session, *framing.Message) {})})
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	testkit.Eventually(t, func() bool { return e.watch.Parks() > 0 }, "the watch to sleep")
	parks := e.watch.Parks()
	time.Sleep(20 * watchInterval)
	if n := e.watch.Parks(); n != parks {
		t.Errorf("the watch of an idle engine slept %d times more", n-parks)
	}
	e.cores[0].wake() // a round of the loop, without callbacks
	e.watch.Wake()
	testkit.Eventually(t, func() bool { return e.watch.Parks() > parks }, "the watch to sleep again")
}

// TestTickerSleepsWithoutTimers expects the ticker to sleep while no core has timers, and
// to wake up for the next one.
func TestTickerSleepsWithoutTimers(t *testing.T) {
	e := New(Config{Cores: 1, IdleTimeout: time.Millisecond, Handler: HandlerFunc(func(*Session, *framing.Message) {})})
	l, err := e.Listen("127.0.0.1:0", Packets())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = e.Close() }()
	for range 3 {
		testkit.Eventually(t, e.noTimers.Load, "the ticker to sleep")
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, c) // until IdleTimeout
		_ = c.Close()
	}
}
