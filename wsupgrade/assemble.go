package wsupgrade

import (
	"sync"

	"github.com/gobwas/ws"
)

// heldBack is how many bytes of a fragmented message's last frame are left for
// the next call of Decode. The message lies in the codec's memory and is
// borrowed until that call; a byte that is still to be consumed makes it come at
// once, also when the peer then falls silent, and so an idle session holds no
// buffer. Every frame has two bytes at least.
const heldBack = 1

// minAssembly and maxPooledAssembly are the capacities in bytes that an
// assembly starts with, and above which it is left to the collector.
const (
	minAssembly       = 4 << 10
	maxPooledAssembly = 64 << 10
)

// maxFragments is in how many frames a message may come, for a limit in bytes:
// plenty for the smallest messages, and for the largest an average of 64 bytes a
// frame. Frames without payload are legal and cost the peer six bytes each, so
// without a bound a message need never end.
func maxFragments(limit uint32) int { return 1024 + int(limit/64) }

var errTooManyFragments = violate(ws.StatusPolicyViolation, "message in too many fragments")

// assembly is a fragmented message under way.
type assembly struct {
	buf       []byte // the payloads so far, at most the codec's limit
	frames    int    // the frames so far
	text      bool
	delivered bool // the message went out: buf is lent until the next Decode
}

// assemblies holds *assembly values whose buffers nobody refers to.
var assemblies = sync.Pool{New: func() any { return new(assembly) }}

// assemble keeps a copy of the payload of f, which is a fragment. That the
// message stays within the limit has been checked by readFrame.
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

// grow makes room for need bytes, doubling so that small fragments cost linear
// time, and never beyond limit.
func (p *assembly) grow(need, limit int) {
	size := min(max(need, 2*cap(p.buf), minAssembly), max(need, limit))
	buf := make([]byte, len(p.buf), size)
	copy(buf, p.buf)
	p.buf = buf
}

// release gives the assembly back after its message was handled.
func (c *codec) release() {
	p := c.parts
	c.parts = nil
	if cap(p.buf) > maxPooledAssembly {
		return
	}
	*p = assembly{buf: p.buf[:0]}
	assemblies.Put(p)
}
