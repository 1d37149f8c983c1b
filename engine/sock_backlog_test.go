package engine

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/framing"
)

// TestReplyAfterAbort: the reply buffer is open when the callback aborts the session.
// It takes no reply any more, and the caller gets the reason.
func TestReplyAfterAbort(t *testing.T) {
	var replies []error
	m := &model{t: t, onSwitch: func(s *Session, msg *framing.Message) {
		replies = append(replies, s.Reply(msg, nil))
		s.Abort(nil)
		replies = append(replies, s.Reply(msg, nil))
	}}
	f := newFakeSession(t, Config{Handler: m, Dispatch: Inline}, Packets())
	f.run()
	f.send(packetsOf(0, 2, 10))
	f.run()
	if len(replies) != 2 || replies[0] != nil || !errors.Is(replies[1], ErrClosed) || len(f.out) > 0 {
		t.Errorf("replies %v, %d bytes written", replies, len(f.out))
	}
}

// TestOnCloseWaitsForOnOpen: the session ends while its OnOpen waits for space in the
// ring, and there is space before the loop posts either.
func TestOnCloseWaitsForOnOpen(t *testing.T) {
	m := &model{t: t, onSwitch: ignore}
	f := newFakeSession(t, Config{Handler: m, RingSize: minRingSize}, Packets())
	filler := recordWriter{core: f.core}
	nobody := &Session{id: makeID(0, 9, 9)}
	for filler.control(nobody, recordOpen) == nil {
	}
	f.step() // attach
	f.conn.session.Abort(nil)
	for f.core.consumer.batch() {
	}
	f.run()
	if m.opened != 1 || m.closed != 1 {
		t.Errorf("opened %d, closed %d times", m.opened, m.closed)
	}
}

// TestStallWithAnEmptyRing: the worker emptied the ring after the loop had found it
// full, and before it could see that the loop waits. Nothing else wakes the loop.
func TestStallWithAnEmptyRing(t *testing.T) {
	m := &model{t: t, onSwitch: ignore}
	f := newFakeSession(t, Config{Handler: m, RingSize: minRingSize}, Packets())
	f.run()
	f.core.stall(f.conn)
	f.run()
	f.send(packetsOf(0, 1, 10))
	f.run()
	if m.next != 1 {
		t.Errorf("%d messages, backlog %b", m.next, f.conn.backlog)
	}
}
