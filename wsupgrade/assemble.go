package wsupgrade

import (
	"sync"

	"github.com/gobwas/ws"
)

// heldBack is how many bytes of a fragmented message's last frame Decode leaves for
// its next call. The message is in the codec's memory and is borrowed until that
// call. An unconsumed byte makes the engine call Decode again at once, even if the
// peer then sends nothing. So the buffer is freed, and an idle session holds none.
// Every frame has at least two bytes.
const heldBack = 1

// minAssembly is the capacity in bytes with which an assembly starts. An assembly
// with a capacity above maxPooledAssembly is left to the garbage collector.
const (
	minAssembly       = 4 << 10
	maxPooledAssembly = 64 << 10
)

// maxFragments returns the largest number of frames of one message, for a limit in
// bytes: 1,024, plus one for each 64 bytes of the limit. Frames without payload are
// legal and cost the peer only six bytes each, so without a bound a message might
// never end.
func maxFragments(limit uint32) int { return 1024 + int(limit/64) }

var errTooManyFragments = violate(ws.StatusPolicyViolation, "message in too many fragments")

// assembly is a fragmented message that is being received.
type assembly struct {
	buf       []byte // the payloads so far, at most the codec's limit in bytes
	frames    int    // the frames so far
	text      bool
	delivered bool // the message was delivered: buf is borrowed until the next Decode
}

// assemblies holds *assembly values whose buffers are not in use.
var assemblies = sync.Pool{New: func() any { return new(assembly) }}

// assemble appends a copy of the payload of f, which is a fragment. readFrame has
// checked that the message stays within the limit.
func (c *codec) assemble(f frame, payload []byte) error {
	if c.parts == nil {
		c.parts = assemblies.Get().(*assembly)
		c.parts.text = f.op == ws.OpText
	}
	p := c.parts
	if p.frames++; p.frames > maxFragments(c.limit) {
		return errTooManyFragments
	}
	if need := len(p.buf) + len(payload); need > cap(p.buf) {
		p.grow(need, int(c.limit))
	}
	p.buf = append(p.buf, payload...)
	return nil
}

// Partial implements engine.PartialCodec.
func (c *codec) Partial() (bytes int, begun bool) {
	if c.parts == nil || c.parts.delivered {
		return 0, false
	}
	return len(c.parts.buf), true
}

// grow raises the capacity to at least need bytes. It doubles the capacity, so that
// small fragments cost linear time, but not beyond limit.
func (p *assembly) grow(need, limit int) {
	size := min(max(need, 2*cap(p.buf), minAssembly), max(need, limit))
	buf := make([]byte, len(p.buf), size)
	copy(buf, p.buf)
	p.buf = buf
}

// release returns the assembly to the pool after its message was handled.
func (c *codec) release() {
	p := c.parts
	c.parts = nil
	if cap(p.buf) > maxPooledAssembly {
		return
	}
	*p = assembly{buf: p.buf[:0]}
	assemblies.Put(p)
}
