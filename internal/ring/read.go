package ring

import "sync/atomic"

// Next returns the next record in the order of claims, or ok == false if there is none, or it isn't
// committed yet. Only the consumer may call it; it doesn't block. The payload is the ring's own
// memory: the consumer may read and change it until [Ring.Release], and must copy the bytes that it
// keeps.
//
// Next moves past the record that it returns. So a consumer that recovers from a panic while
// handling a record can continue with Next or Release: that record counts as read, and the records
// after it are not affected.
func (r *Ring) Next() (kind uint32, payload []byte, ok bool) {
	// In a full ring the position after the last record is the memory of the first one, which is
	// not zeroed yet.
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

// Ready reports whether there is a committed record, or padding to be released, after the records
// that Next has passed. Only the consumer may call it; it doesn't block. It is the check to make
// between [Parker.Arm] and [Parker.Park].
func (r *Ring) Ready() bool {
	return r.cursor-r.released <= r.mask && r.load(r.cursor) != 0
}

// Release returns the space of all records that Next has passed to the producers; their payloads
// must not be used any more. It returns how many bytes it released. Only the consumer may call it,
// preferably once a batch, and also after Next returned false, because Next passes padding too.
// Without anything to release it costs almost nothing.
func (r *Ring) Release() int {
	if r.cursor == r.released {
		return 0
	}
	n := r.cursor - r.released
	// Zero all of it, since the next headers may be at any multiple of headerSize (invariant 2).
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

// load returns the header at a position: zero if no record there is committed. Otherwise all that
// its producer wrote before the commit is visible.
func (r *Ring) load(position uint64) uint64 {
	return atomic.LoadUint64(r.header(position))
}
