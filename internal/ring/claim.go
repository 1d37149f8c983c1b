package ring

import "fmt"

// Claim is space in a ring that a producer has reserved and must commit, with [Ring.Commit] or [Ring.CommitPart], exactly
// once: records behind an open claim can't be read, so a claim that is never committed stops the ring for good. The zero
// value is no claim.
type Claim struct {
	// Buf is the ring's own memory, all zero, of exactly the claimed size. It belongs to the claimer until the commit
	// and must not be touched afterwards.
	Buf []byte

	position uint64 // Where the record's header is.
}

// Claim reserves space for a payload of size bytes and returns it for the caller to fill. If there is no room now, ok is
// false and nothing is reserved; then wait for the consumer to release some, having woken it for what was committed
// before. Claim may be called from any goroutine and doesn't block. It panics unless 0 < size <= MaxRecord, because no
// amount of waiting would make room.
//
// Fill a claim with bytes that are at hand. To wait for them, as with a blocking Read into Buf, would hold up every
// record behind it.
func (r *Ring) Claim(size int) (c Claim, ok bool) {
	if size <= 0 || size > r.MaxRecord() {
		panicClaimSize(size, r.MaxRecord())
	}
	capacity := r.mask + 1
	record := aligned(size)
	for {
		tail := r.tail.Load()
		offset := tail & r.mask

		// A record doesn't wrap: what is left before the end of memory becomes padding if it is too short.
		padding := uint64(0)
		if rest := capacity - offset; rest < record {
			padding = rest
		}
		if !r.hasRoom(tail, padding+record) {
			return Claim{}, false
		}
		if !r.tail.CompareAndSwap(tail, tail+padding+record) {
			continue
		}
		if padding > 0 {
			// At most MaxRecord bytes, so it fits an int32; at least headerSize, because both ends are aligned.
			r.store(tail, -int32(padding), 0)
			tail += padding
			offset = 0
		}
		start, end := offset+headerSize, offset+headerSize+uint64(size)
		return Claim{Buf: r.bytes[start:end:end], position: tail}, true
	}
}

// hasRoom reports whether need bytes are free behind tail. Head is read from the consumer's cache line only if the
// remembered one says no; a head that is out of date only makes the ring look fuller than it is.
func (r *Ring) hasRoom(tail, need uint64) bool {
	capacity := int64(r.mask + 1)
	// A compare-and-swap that succeeds on tail shows that tail is right at that moment, and any head seen before is at
	// most the head of that moment; so the room found here is still there. Signed, because a tail that is out of date
	// may be behind head: that looks roomy, but then the compare-and-swap fails, since the tail never falls behind head.
	if int64(tail-r.cachedHead.Load())+int64(need) <= capacity {
		return true
	}
	head := r.head.Load()
	if int64(tail-head)+int64(need) > capacity {
		return false
	}
	r.cachedHead.Store(head)
	return true
}

func panicClaimSize(size, limit int) {
	panic(fmt.Sprintf("ring: claim of %d bytes is not between 1 and %d", size, limit))
}
