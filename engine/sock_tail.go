package engine

// smallTail is the size in bytes of the largest incomplete tail that is copied before the
// next read. Bytes after a larger tail are read into its block in place, so that a large
// message in small pieces is copied a constant number of times.
const smallTail = 4 << 10

// inputTail is the input of a socket that was read and is not yet decoded: the start of a
// message, or complete messages that have to wait. Owned by the loop.
type inputTail struct {
	tail *block // nil if there is none
	seen int32  // bytes of it that Decode has examined

	inCodec int32 // bytes of an incomplete message that the codec keeps
}

// readTarget returns the buffer to read into. Its first have bytes are the incomplete tail.
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

// maxTailGrowth is how many times the bytes that have arrived, plus 64 KiB, a block may
// have for a frame that is only announced.
const maxTailGrowth = 4

// tailSize returns the size of the tail's block for the next read. If the codec finds the
// size of the frame at its start, the block grows to that, in steps of maxTailGrowth, so
// that a peer that announces much and sends little takes little memory. Else the block
// doubles when it is nearly full.
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
	// The steps end at need, so that all of them together are 4/3 of it.
	for need > maxTailGrowth*len(t.b)+maxFrameOverhead {
		need = (need + maxTailGrowth - 1) / maxTailGrowth
	}
	return need
}

// announced returns the size of the incomplete frame at the start of b, or 0 if it is
// unknown or too large.
func announced(s *Session, codec SizedCodec, b []byte) int {
	defer s.recoverPanic()
	if n := codec.Need(b); n > len(b) && n <= s.out.limits.MaxMessageSize+maxFrameOverhead {
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
