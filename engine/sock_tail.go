package engine

// smallTail is the largest incomplete tail in bytes that is copied in front of
// the next read; above it the read goes behind the tail in place, so that a large
// message in small pieces is copied a constant number of times.
const smallTail = 4 << 10

// inputTail is the input of a socket that was read and is not yet decoded: the start
// of a message, or whole messages that have to wait. Owned by the loop.
type inputTail struct {
	tail *block // nil if there is none
	seen int32  // bytes of it that Decode has looked at
}

// readTarget returns where to read to: have bytes of it are the incomplete tail.
func (i *inputTail) readTarget(s *Session, codec Codec) (buf []byte, have int) {
	t, readBuf := i.tail, s.core.readBuf
	if t == nil {
		return readBuf, 0
	}
	if len(t.b) <= smallTail && len(t.b) < len(readBuf)/2 {
		have = copy(readBuf, t.b)
		i.tail = nil
		t.free()
		return readBuf, have
	}
	if size := tailSize(s, codec, t); size > cap(t.b) {
		bigger := newBlock(size)
		bigger.b = append(bigger.b, t.b...)
		i.tail = bigger
		t.free()
		t = bigger
	}
	return t.b[:cap(t.b)], len(t.b)
}

// maxTailGrowth is how many times the bytes that have arrived, and 64 KiB, a block
// may hold for a frame that is only announced.
const maxTailGrowth = 4

// tailSize is the size of the tail's block for the next read. If the codec knows the
// size of the frame at its start, the block grows to that, by steps of
// maxTailGrowth, so that a peer which announces much and sends little pins little;
// else it doubles when it is nearly full.
func tailSize(s *Session, codec Codec, t *block) int {
	need := 0
	if sized, ok := codec.(SizedCodec); ok {
		need = announced(s, sized, t.b)
	}
	switch {
	case need == 0 && t.space() < cap(t.b)/4:
		return 2 * cap(t.b)
	case need <= cap(t.b) || t.space() >= minBlockSize:
		return cap(t.b)
	}
	// Steps that end at need, so that all of them together are 4/3 of it.
	for need > maxTailGrowth*len(t.b)+maxFrameOverhead {
		need = (need + maxTailGrowth - 1) / maxTailGrowth
	}
	return need
}

// announced is the size of the incomplete frame at the start of b, or 0 if it is not
// known, or refused.
func announced(s *Session, codec SizedCodec, b []byte) int {
	defer s.recoverPanic()
	if n := codec.Need(b); n > len(b) && n <= s.core.engine.lim.MaxMessageSize+maxFrameOverhead {
		return n
	}
	return 0
}

// keep makes b the incomplete tail. b may lie in the read buffer or in the tail's
// own block.
func (i *inputTail) keep(b []byte) {
	t := i.tail
	switch {
	case len(b) == 0:
		i.tail = nil
		if t != nil {
			t.free()
		}
	case t == nil:
		i.tail = blockOf(b)
	default:
		// b is a suffix of the block's memory: move it to the front.
		full := t.b[:cap(t.b)]
		t.b = full[:copy(full, b)]
	}
}
