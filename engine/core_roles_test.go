package engine

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/reactor"
)

// onTakeOver opens a session whose worker reads, and sends it count packets in one read.
// In the callback of the first, f runs on the core's reader.
func onTakeOver(t *testing.T, count int, f func(f *fakeSession, m *framing.Message)) (s *fakeSession, handled *int) {
	t.Helper()
	handled = new(int)
	within := false
	s = newSharedSession(t, Config{RingSize: minRingSize, Logger: discardLogger(), Handler: OnMessage(func(_ *Session, msg *framing.Message) {
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
	var b []byte
	for id := range count {
		b, _ = framing.AppendPacket(b, &framing.Message{ID: uint32(id), Payload: payload(uint32(id), 100)})
	}
	s.send(b)
	s.run()
	return s, handled
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
			f, handled := onTakeOver(t, count, func(f *fakeSession, msg *framing.Message) {
				c.end(f)
				for f.step() {
				}
				if f.closed > 0 || f.conn.stage == stageGone {
					t.Error("closed under the callback")
				}
				if !bytes.Equal(msg.Payload, payload(0, 100)) {
					t.Error("the payload has changed")
				}
			})
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
	if e.admit(netip.MustParseAddr("127.0.0.1")) != nil || !e.admission.beginHandshake(0) || !e.beginSession() {
		f.t.Fatal("not admitted")
	}
	s, c := newSocketSession(e, -1, f.conn.session.remote)
	s.listener = f.conn.session.listener
	c.stage = stageTLSOrPlain
	_ = attachTask(c)
	return c
}

// TestReaderServesTheNeighbours reads from another session while a callback runs: its
// messages wait in the ring, its bytes go to another buffer, and its end frees them.
func TestReaderServesTheNeighbours(t *testing.T) {
	var other *socketConn
	f, handled := onTakeOver(t, 2, func(f *fakeSession, msg *framing.Message) {
		before := f.core.consumer.core.stats.records.Load()
		other = f.neighbour()
		whole, _ := framing.AppendPacket(nil, &framing.Message{ID: 1, Payload: make([]byte, 100)})
		f.in = append(whole, whole[:30]...)
		other.OnEvent(reactor.Readable)
		if f.core.ring.Depth() == 0 || f.core.stats.records.Load() != before {
			t.Error("the neighbour's message is not in the ring")
		}
		if !bytes.Equal(msg.Payload, payload(0, 100)) {
			t.Error("the payload has changed")
		}
		if other.tail == nil {
			t.Error("the neighbour has no incomplete packet")
		}
		other.endBehindMessages(ErrIdleTimeout)
		if other.tail != nil {
			t.Error("an ending session holds its input")
		}
	})
	f.run()
	if *handled != 3 {
		t.Errorf("%d of 3 messages were handled", *handled)
	}
	if other.session.closing.Load() != closingAll {
		t.Error("the neighbour has not ended")
	}
}
