package ring

import "fmt"

// Claim is space in a ring that a producer has reserved. It must be committed exactly once, with
// [Ring.Commit] or [Ring.CommitPart]. Records after an open claim can't be read, so a claim that is
// never committed stops the ring for good. The zero value is no claim.
type Claim struct {
	// Buf is the ring's own memory, all zero, of exactly the claimed size. The claimer owns it
	// until the commit and must not use it afterwards.
	Buf []byte

	position uint64 // Where the record's header is.
}

// Claim reserves space for a payload of size bytes and returns it for the caller to fill. If there
// is not enough free space, ok is false and nothing is reserved. Then wake the consumer for records
// already committed, and wait until it releases space. Claim may be called from any goroutine and
// doesn't block. It panics unless 0 < size <= MaxRecord, because a larger claim could never
// succeed.
//
// Fill a claim only with bytes that are available at once. A wait for bytes, as in a blocking Read
// into Buf, would delay every record after it.
func (r *Ring) Claim(size int) (c Claim, ok bool) {
	if size <= 0 || size > r.MaxRecord() {
		panicClaimSize(size, r.MaxRecord())
	}
	capacity := r.mask + 1
	record := aligned(size)
	for {
		tail := r.tail.Load()
		offset := tail & r.mask

		// A record doesn't wrap: if the rest before the end of memory is too short, it becomes
		// padding.
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
			// At most MaxRecord bytes, so it fits an int32; at least headerSize, because both ends
			// are aligned.
			r.store(tail, -int32(padding), 0)
			tail += padding
			offset = 0
		}
		start, end := offset+headerSize, offset+headerSize+uint64(size)
		return Claim{Buf: r.bytes[start:end:end], position: tail}, true
	}
}

// hasRoom reports whether need bytes are free after tail. It reads head from the consumer's cache
// line only if cachedHead shows too little space. A head that is out of date only makes the ring
// look fuller than it is.
func (r *Ring) hasRoom(tail, need uint64) bool {
	capacity := int64(r.mask + 1)
	// A compare-and-swap that succeeds on tail shows that tail is right at that moment, and any
	// head seen before is at most the head of that moment; so the space found here is still free.
	// Signed, because a tail that is out of date may be less than head. Then there seems to be
	// space, but the compare-and-swap fails, since the current tail is never less than head.
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
