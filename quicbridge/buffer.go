package quicbridge

import "sync"

// bufferSizes are the sizes of the pooled read buffers, in bytes. An idle stream
// holds no buffer. A stream that waits for the rest of a small packet holds the
// smallest size, and a stream that is being read holds the second. The buffer of a
// larger packet grows as its bytes arrive, so a peer can only occupy memory in
// proportion to the bytes that it sent. The largest size holds a message of the
// engine's default limit. A larger buffer is allocated at its exact size and left
// to the garbage collector.
var bufferSizes = [...]int{tailSize, burstSize, 2 * burstSize, 4 * burstSize, 8 * burstSize, 1<<20 + tailSize}

const (
	tailSize  = 4 << 10
	burstSize = 64 << 10
	growth    = 2
)

var bufferPools [len(bufferSizes)]sync.Pool

// buffer is a read buffer, owned by one goroutine at a time.
type buffer struct{ b []byte }

// newBuffer returns a buffer of at least size bytes.
func newBuffer(size int) *buffer {
	for i, s := range bufferSizes {
		if size <= s {
			if b, ok := bufferPools[i].Get().(*buffer); ok {
				return b
			}
			return &buffer{make([]byte, s)}
		}
	}
	return &buffer{make([]byte, size)}
}

// bufferSize returns the size in bytes of the buffer that newBuffer(size) returns.
func bufferSize(size int) int {
	for _, s := range bufferSizes {
		if size <= s {
			return s
		}
	}
	return size
}

// size returns the size of b in bytes, 0 for a nil b.
func (b *buffer) size() int {
	if b == nil {
		return 0
	}
	return len(b.b)
}

// free returns b to its pool. The caller must not use b afterwards. A nil b is
// allowed.
func (b *buffer) free() {
	if b == nil {
		return
	}
	for i, s := range bufferSizes {
		if len(b.b) == s {
			bufferPools[i].Put(b)
			return
		}
	}
}

// resized returns a buffer of at least size bytes that starts with the first n
// bytes of b. b, which may be nil, is freed.
func (b *buffer) resized(n, size int) *buffer {
	r := newBuffer(size)
	if b != nil {
		copy(r.b, b.b[:n])
		b.free()
	}
	return r
}

// next returns the size in bytes of the buffer that replaces b, when a packet fills
// b and is not complete. The packet takes at most limit bytes in total.
func (b *buffer) next(limit int) int {
	n := len(b.b)
	return bufferSize(max(n+1, min(growth*n, limit)))
}
