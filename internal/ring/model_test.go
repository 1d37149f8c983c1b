package ring

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// model is the queue that a ring must behave as: entries in the order of claims.
type model struct {
	t       testing.TB
	ring    *Ring
	entries []*entry // Claimed and not yet read.
	open    []*entry // Claimed and not yet committed, in no order.
	kind    uint32   // Numbers the records.
}

type entry struct {
	claim     Claim
	committed bool
	payload   []byte // The committed bytes; empty if the claim was abandoned.
	kind      uint32
}

// play runs a stream of operations, one byte for the operation and two for the amount, on a ring
// and on its model.
func play(t testing.TB, ops []byte) {
	m := &model{t: t, ring: New(MinSize)}
	for len(ops) >= 3 {
		what, amount := ops[0], int(ops[1])<<8|int(ops[2])
		ops = ops[3:]
		switch what % 8 {
		case 0, 1:
			m.claim(1 + amount%64)
		case 2:
			m.claim(1 + amount%m.ring.MaxRecord())
		case 3:
			m.commit(amount, -1)
		case 4:
			m.commit(amount>>8, amount)
		case 5:
			m.commit(len(m.open)-1, amount) // The newest: most likely to be given back.
		case 6:
			m.next(1 + amount%4)
		case 7:
			m.ring.Release()
		}
		checkFree(t, m.ring)
	}
	m.drain()
}

func (m *model) claim(size int) {
	r := m.ring
	// The space that the claim needs, computed from the positions: its record, and the rest before
	// the end if that is less.
	need := int(aligned(size))
	if rest := r.Cap() - int(r.tail.Load())%r.Cap(); rest < need {
		need += rest
	}
	fits := r.Cap()-r.Depth() >= need
	c, ok := r.Claim(size)
	if ok != fits {
		m.t.Fatalf("claim of %d bytes at depth %d of %d: ok %v, want %v", size, r.Depth(), r.Cap(), ok, fits)
	}
	if !ok {
		return
	}
	if len(c.Buf) != size || !bytes.Equal(c.Buf, make([]byte, size)) {
		m.t.Fatalf("claim of %d bytes isn't %d zeroes", size, len(c.Buf))
	}
	e := &entry{claim: c}
	m.entries = append(m.entries, e)
	m.open = append(m.open, e)
}

// commit commits one of the open claims: all of it if used is negative.
func (m *model) commit(which, used int) {
	if len(m.open) == 0 {
		return
	}
	which %= len(m.open)
	e := m.open[which]
	m.open[which] = m.open[len(m.open)-1]
	m.open = m.open[:len(m.open)-1]

	m.kind++
	e.kind, e.committed = m.kind*0x9e3779b9, true
	if used < 0 {
		used = len(e.claim.Buf)
	} else {
		used %= len(e.claim.Buf) + 1
	}
	for i := range used {
		e.claim.Buf[i] = byte(m.kind) + byte(i) | 0x80 // Never zero, as header words left over would be.
	}
	e.payload = bytes.Clone(e.claim.Buf[:used])
	if used == len(e.claim.Buf) {
		m.ring.Commit(e.claim, e.kind)
	} else {
		m.ring.CommitPart(e.claim, used, e.kind)
	}
}

// next reads up to n records and reports whether there were that many.
func (m *model) next(n int) bool {
	for range n {
		for len(m.entries) > 0 && m.entries[0].committed && len(m.entries[0].payload) == 0 {
			m.entries = m.entries[1:] // Abandoned.
		}
		available := len(m.entries) > 0 && m.entries[0].committed
		if available && !m.ring.Ready() {
			m.t.Fatal("not ready, though a record is committed")
		}
		kind, payload, ok := m.ring.Next()
		if ok != available {
			m.t.Fatalf("next: ok %v, want %v", ok, available)
		}
		if !ok {
			return false
		}
		e := m.entries[0]
		m.entries = m.entries[1:]
		if kind != e.kind || !bytes.Equal(payload, e.payload) {
			m.t.Fatalf("got kind %d, %d bytes % x; want kind %d, %d bytes % x",
				kind, len(payload), payload, e.kind, len(e.payload), e.payload)
		}
	}
	return true
}

// drain commits the open claims, reads everything, and expects an empty ring.
func (m *model) drain() {
	for len(m.open) > 0 {
		m.commit(0, -1)
	}
	for m.next(1) {
	}
	m.ring.Release()
	checkFree(m.t, m.ring)
	if len(m.entries) > 0 || !m.ring.Empty() || m.ring.Depth() != 0 || m.ring.Ready() {
		m.t.Fatalf("%d entries left at depth %d", len(m.entries), m.ring.Depth())
	}
}

func TestAgainstModel(t *testing.T) {
	for seed := range uint64(60) {
		random := rand.New(rand.NewPCG(seed, 1))
		ops := make([]byte, 3*2000)
		for i := range ops {
			ops[i] = byte(random.Uint32())
		}
		play(t, ops)
	}
}

func FuzzRing(f *testing.F) {
	f.Add([]byte{0, 0, 9, 3, 0, 0, 6, 0, 3, 7, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		if len(ops) > 3*4096 {
			t.Skip("longer streams find nothing that shorter ones don't")
		}
		play(t, ops)
	})
}
