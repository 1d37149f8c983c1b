package ring

import "sync/atomic"

// Next returns the next record in the order of claims, or ok == false if none is committed, or the record ahead isn't
// yet. Only the consumer may call it; it doesn't block. The payload is the ring's own memory: the consumer may read and
// change it until [Ring.Release], and must copy what it keeps.
//
// Next moves past the record that it returns. So a consumer that recovers from a panic while handling a record just goes
// on with Next or Release: that record counts as read, and the ones behind it are untouched.
func (r *Ring) Next() (kind uint32, payload []byte, ok bool) {
	// In a full ring the position behind the last record is the memory of the first one, which is not zeroed yet.
	for r.cursor-r.released <= r.mask {
		header := r.load(r.cursor)
		length := int32(header)
		if length == 0 {
			break
		}
		if length < 0 {
			r.cursor += uint64(-length)
			continue
		}
		offset := r.cursor & r.mask
		start, end := offset+headerSize, offset+uint64(length)
		r.cursor += aligned(int(length) - headerSize)
		return uint32(header >> 32), r.bytes[start:end:end], true
	}
	return 0, nil, false
}

// Ready reports whether a committed record, or padding to be released, waits behind what Next has passed. Only the
// consumer may call it; it doesn't block. It is what to ask between [Parker.Arm] and [Parker.Park].
func (r *Ring) Ready() bool {
	return r.cursor-r.released <= r.mask && r.load(r.cursor) != 0
}

// Release gives the space of everything that Next has passed back to the producers; the payloads must not be touched any
// more. Only the consumer may call it, best once a batch, and also after Next returned false, because Next passes
// padding too. It costs next to nothing when there is nothing to release. It returns how many bytes it released.
func (r *Ring) Release() int {
	if r.cursor == r.released {
		return 0
	}
	n := r.cursor - r.released
	// Zero all of it, since the next headers may come to lie at any multiple of headerSize (invariant 2).
	start, end := (r.released&r.mask)/headerSize, (r.cursor&r.mask)/headerSize
	if start < end {
		clear(r.words[start:end])
	} else {
		clear(r.words[start:])
		clear(r.words[:end])
	}
	r.released = r.cursor
	r.head.Store(r.cursor)
	return int(n)
}

// load reads the header at a position: zero if no record there is committed, and otherwise everything that its producer
// wrote before the commit is visible.
func (r *Ring) load(position uint64) uint64 {
	return atomic.LoadUint64(r.header(position))
}
