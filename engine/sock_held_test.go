package engine

import (
	"testing"

	"github.com/millrace/millrace/framing"
)

// TestResumedSessionIsReadBeforeItIsIdle: the time for which the session was paused
// does not count, also when a tick comes between Resume and the next read.
func TestResumedSessionIsReadBeforeItIsIdle(t *testing.T) {
	const ticks = 20_000 // real time passes, too, and must not count
	m := &model{t: t, onSwitch: ignore}
	f := newFakeSession(t, Config{Handler: m, Dispatch: Inline, IdleTimeout: ticks * tickInterval}, Packets())
	f.run()
	f.conn.session.Pause()
	f.send(packetsOf(0, 1, 100))
	f.wait(ticks - 200)
	f.conn.session.Resume()
	f.wait(400)
	f.run()
	if m.next != 1 || m.closed > 0 {
		t.Fatalf("%d messages, ended by %v", m.next, m.reason)
	}
}

// greeted is a protocol that begins with an h.
type greeted struct{ StreamProtocol }

func (greeted) Match(first []byte) Match {
	if first[0] == 'h' {
		return MatchYes
	}
	return MatchNo
}

// TestSilenceIsNotTheEnginesOwn: the first bytes of a connection lie in the socket
// and are not read, because the ring is full. The connection is not silent.
func TestSilenceIsNotTheEnginesOwn(t *testing.T) {
	const ticks = 20_000 // real time passes, too, and must not count
	m := &model{t: t, onSwitch: ignore}
	f := newFakeSession(t, Config{Handler: m, RingSize: minRingSize, SniffTimeout: ticks * tickInterval, HandshakeTimeout: ticks * tickInterval},
		greeted{Framed(framing.Line{})}, Packets())
	f.run()
	filler := recordWriter{core: f.core}
	nobody := &Session{id: makeID(0, 9, 9)}
	for filler.control(nobody, recordOpen) == nil {
	}
	f.core.stalled.Store(true) // another session waits
	f.send([]byte("hello\n"))
	f.wait(ticks + 200)
	for f.step() {
	}
	f.run()
	if m.next != 1 || m.closed > 0 {
		t.Fatalf("%d messages, ended by %v", m.next, f.conn.session.Err())
	}
}
