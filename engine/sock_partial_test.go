package engine

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/framing"
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

// TestPartialTimeoutCounts ticks: a message that grows by 16 KiB gets another
// PartialTimeout, one that trickles does not, and a complete one ends it.
func TestPartialTimeoutCounts(t *testing.T) {
	const ticks = 20_000 // real time passes, too, and must not count
	m := &model{t: t, onSwitch: func(*Session, *framing.Message) {}}
	f := newFakeSession(t, Config{Handler: m, Dispatch: Inline, PartialTimeout: ticks * tickInterval, LingerTimeout: -1}, Packets())
	f.run()
	message := func(size int) []byte {
		b, _ := framing.AppendPacket(nil, &framing.Message{ID: m.next, Payload: make([]byte, size)})
		return b
	}
	step := func(b []byte, n int64) {
		t.Helper()
		f.send(b)
		f.wait(n)
		f.run()
	}
	b := message(100_000)
	for len(b) > partialGrowth { // each piece is just large enough, and comes just in time
		step(b[:partialGrowth], ticks-200)
		b = b[partialGrowth:]
	}
	step(b, 10*ticks)
	if m.next != 1 || m.closed > 0 {
		t.Fatalf("%d messages, ended by %v", m.next, m.reason)
	}
	b = message(100)
	for range 10 { // a byte now and then
		step(b[:1], ticks/10)
		b = b[1:]
	}
	step(nil, 200)
	if m.closed != 1 || !errors.Is(m.reason, ErrPartialTimeout) {
		t.Fatalf("closed %d times, by %v", m.closed, m.reason)
	}
}
