package wsupgrade

import (
	"sync/atomic"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// codec is one session's WebSocket state: 32 bytes. The state of a handshake or of
// a fragmented message is allocated only for its duration.
//
// Decode (on the loop) and Append (on any goroutine, with the outbox locked) may
// run at the same time. They share limit, plain and client, which don't change
// after the session is open, and open, which is atomic.
type codec struct {
	proto *Protocol // the paths that a request may name
	parts *assembly // the unfinished fragmented message, or nil; used by Decode only
	limit uint32    // the largest WebSocket message in bytes, a packet's header included
	open  atomic.Bool
	// The role and the kind of path. Frames of a client are masked, those of a
	// server are not.
	client bool
	plain  bool
}

var (
	_ engine.StatelessCodec = (*codec)(nil)
	_ engine.FormCodec      = (*codec)(nil)
	_ engine.HeaderCodec    = (*codec)(nil)
	_ engine.PartialCodec   = (*codec)(nil)
	_ engine.SizedCodec     = (*codec)(nil)
	_ engine.PingCodec      = (*codec)(nil)
	_ engine.Handshaker     = (*codec)(nil)
	_ control               = (*engine.Control)(nil)
)

// control has the methods of engine.Control that a codec needs. It is an interface,
// so that a codec can be tested, and fuzzed, without an engine.
type control interface {
	SendControl(frame []byte) error
	SetValue(key, v any)
	Authorize() bool
	Establish()
	Session() *engine.Session
}

// newServerCodec returns the codec of an accepted connection, before its upgrade
// request.
func newServerCodec(p *Protocol, limits *engine.Limits) *codec {
	return &codec{proto: p, limit: uint32(limits.MaxMessageSize)}
}

// newClientCodec returns the codec of a dialed connection after its handshake.
func newClientCodec(p *Protocol, r route, limits *engine.Limits) *codec {
	c := &codec{proto: p, limit: uint32(limits.MaxMessageSize), client: true}
	c.enter(r)
	return c
}

// enter ends the handshake: from now on the connection carries the frames of r.
func (c *codec) enter(r route) {
	c.plain = r.plain
	if !r.plain {
		c.limit += framing.PacketHeaderSize
	}
	c.open.Store(true)
}

// NeedsHandshake implements engine.Handshaker.
func (c *codec) NeedsHandshake() bool { return !c.open.Load() }

// Need implements engine.SizedCodec.
func (c *codec) Need(b []byte) int {
	if !c.open.Load() || c.parts != nil && c.parts.delivered {
		return 0
	}
	f, err := c.readFrame(b)
	if err != nil || f.head == 0 {
		return 0
	}
	return f.head + f.length
}

// Decode implements engine.Codec.
func (c *codec) Decode(ctl *engine.Control, b []byte, seen int, m *framing.Message) (n int, ok bool, err error) {
	return c.decode(ctl, b, seen, m)
}
