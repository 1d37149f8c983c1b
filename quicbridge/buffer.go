package quicbridge

import "sync"

// bufferSizes are the sizes of the pooled read buffers, in bytes. An idle stream
// holds none; one that waits for the rest of a small packet holds the smallest;
// one through which data flows the second. A larger packet makes its buffer grow
// as its bytes arrive, so that a peer only ties up memory in proportion to what
// it sent. The largest holds a message of the engine's default limit. Buffers
// beyond that are made to measure and left to the collector.
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

// bufferSize is the size of the buffer that newBuffer returns, in bytes.
func bufferSize(size int) int {
	for _, s := range bufferSizes {
		if size <= s {
			return s
		}
	}
	return size
}

// size is how large b is, in bytes; a nil b has none.
func (b *buffer) size() int {
	if b == nil {
		return 0
	}
	return len(b.b)
}

// free gives b back; nobody may use it afterwards. A nil b is nothing to free.
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

// next is how large the buffer must be, in bytes, that follows b for the rest of a
// packet which fills b, and whose whole size is at most limit.
func (b *buffer) next(limit int) int {
	n := len(b.b)
	return bufferSize(max(n+1, min(growth*n, limit)))
}
