package ring

import "fmt"

// Commit publishes the whole claim as one record of the given kind; the user defines the kinds.
// From now on the ring owns the bytes of c.Buf. Commit may be called from any goroutine, not only
// the one that claimed, and doesn't block. It doesn't wake a parked consumer: call [Parker.Wake]
// after it, or once after several.
func (r *Ring) Commit(c Claim, kind uint32) {
	if raceEnabled {
		r.checkOpen(c)
	}
	r.store(c.position, int32(headerSize+len(c.Buf)), kind)
}

// CommitPart publishes the first used bytes of a claim as one record and returns the rest to the
// ring. With used == 0 it publishes nothing: the claim is abandoned. The caller must not have
// written into c.Buf past used; if it has, for example because an io.Reader used the space as
// scratch, it must clear(c.Buf[used:]) first. Under the race detector CommitPart panics if this
// rule is violated; without it the ring would be corrupted.
//
// The rest is free again at once if there is no claim after this one, and otherwise when the
// consumer has passed it. So wake the consumer after an abandoned claim too. CommitPart may be
// called from any goroutine and doesn't block. It panics unless 0 <= used <= len(c.Buf).
func (r *Ring) CommitPart(c Claim, used int, kind uint32) {
	if used < 0 || used > len(c.Buf) {
		panic(fmt.Sprintf("ring: commit of %d bytes is not between 0 and %d", used, len(c.Buf)))
	}
	if raceEnabled {
		r.checkOpen(c)
		checkZero(c.Buf[used:])
	}
	record := aligned(used)
	if used == 0 {
		record = 0
	}
	keep, end := c.position+record, c.position+aligned(len(c.Buf))
	// Return the rest before publishing: until our header is stored the consumer can't pass this
	// claim, so invariants 3 and 5 hold throughout. The returned bytes are still zero, as invariant
	// 2 requires, for any alignment of the next claim.
	if keep < end && !r.tail.CompareAndSwap(end, keep) {
		// There is a claim after this one. The rest becomes padding; it is a multiple of
		// headerSize, so a header fits.
		r.store(keep, -int32(end-keep), 0)
	}
	if record > 0 {
		r.store(c.position, int32(headerSize+used), kind)
	}
}

// checkOpen panics if a claim is not open. It can't detect every second commit, because the
// consumer may have passed the first one already.
func (r *Ring) checkOpen(c Claim) {
	if len(c.Buf) == 0 {
		panic("ring: commit of no claim")
	}
	if r.load(c.position) != 0 {
		panic("ring: claim committed twice")
	}
}

// checkZero panics if a claimer wrote into the space that it returns.
func checkZero(rest []byte) {
	for _, b := range rest {
		if b != 0 {
			panic("ring: bytes past the committed part were written")
		}
	}
}
