package engine

import (
	"errors"
	"testing"
)

// TestPartialTimeoutIsOfOneMessage: a peer that completes each message in time, and
// sends the start of the next one along with the rest of it, stays.
func TestPartialTimeoutIsOfOneMessage(t *testing.T) {
	const ticks = 20_000 // real time passes, too, and must not count
	m := &model{t: t, onSwitch: ignore}
	f := newFakeSession(t, Config{Handler: m, Dispatch: Inline, PartialTimeout: ticks * tickInterval, LingerTimeout: -1}, Packets())
	f.run()
	b := packetsOf(0, 1, 100)
	half := len(b) / 2
	f.send(b[:half])
	for i := range uint32(4) {
		f.wait(ticks / 2)
		next := packetsOf(i+1, 1, 100)
		f.send(append(b[half:], next[:half]...))
		b = next
		f.run()
	}
	if m.next != 4 || m.closed > 0 {
		t.Fatalf("%d messages, ended by %v", m.next, m.reason)
	}
}

// TestPartialTimeoutBeforeIdleTimeout: a deadline that is armed already and comes
// later does not delay PartialTimeout.
func TestPartialTimeoutBeforeIdleTimeout(t *testing.T) {
	const ticks = 20_000 // real time passes, too, and must not count
	m := &model{t: t, onSwitch: ignore}
	f := newFakeSession(t, Config{
		Handler: m, Dispatch: Inline, PartialTimeout: ticks * tickInterval, IdleTimeout: 100 * ticks * tickInterval, LingerTimeout: -1,
	}, Packets())
	f.run()
	f.send(packetsOf(0, 1, 100)[:50])
	f.wait(ticks + 200)
	f.run()
	if !errors.Is(m.reason, ErrPartialTimeout) {
		t.Fatalf("ended by %v", m.reason)
	}
}
