package framing

import (
	"fmt"
	"slices"
)

// The plain framings are all but Packet: on the wire they have a payload, and
// MuxLine an ID, but no place for the other fields of a Message. What only
// describes a message (Type, BizType, FlagHighPriority, flags without a name)
// stays behind when they encode it. What is data, or changes how the payload is
// to be read, must not get lost in silence, so it is refused.

// plainRefused are the flags without which a payload means something else: a
// part would pass for the whole, an error for an answer, a cancellation for an
// empty request.
const plainRefused = FlagFragmented | FlagFailed | FlagMore | FlagCancel

// checkPlain returns an error that wraps ErrUnencodable when a plain framing
// would lose something that m can't do without.
func checkPlain(m *Message) error {
	if len(m.Ext) == 0 && m.Compression == CompressionNone && m.Flags&plainRefused == 0 {
		return nil
	}
	return plainError(m)
}

// plainError says which field checkPlain refused. It stands apart so that the
// check itself is small enough to be inlined.
func plainError(m *Message) error {
	switch {
	case len(m.Ext) != 0:
		return fmt.Errorf("%w: this framing has no place for an extension header of %d bytes", ErrUnencodable, len(m.Ext))
	case m.Compression != CompressionNone:
		return fmt.Errorf("%w: this framing can't mark a payload as compressed (%d)", ErrUnencodable, m.Compression)
	default:
		return fmt.Errorf("%w: this framing can't carry the flags %#04x", ErrUnencodable, uint16(m.Flags&plainRefused))
	}
}

// fillPlain sets every field of *m, so that nothing of an earlier message
// shines through. Field by field, because the compiler builds a composite
// literal on the stack first and then copies it, at twice the cost.
func fillPlain(m *Message, payload []byte, t Type, id uint32) {
	m.Payload = payload
	m.Ext = nil
	m.Stream = 0
	m.ID = id
	m.Flags = 0
	m.Type = t
	m.BizType = 0
	m.Compression = CompressionNone
	m.Text = false
	m.Datagram = false
}

// window returns the start of b that a frame of max payload bytes and overhead
// bytes around them can take. Searching only there bounds the work that an
// endless frame can cause, however much of it is in b.
func window(b []byte, max, overhead int) []byte {
	if len(b)-overhead > max {
		return b[:max+overhead]
	}
	return b
}

// endless describes a frame that has grown beyond max without ending.
func endless(kind string, max int) error {
	return fmt.Errorf("%w: %s without an end, limit %d", ErrTooLarge, kind, max)
}

// reserve returns dst with room for n more bytes behind its length, and
// allocates at most once.
func reserve(dst []byte, n int) []byte {
	if cap(dst)-len(dst) < n {
		return grow(dst, n)
	}
	return dst
}

// grow is reserve's rare case. Inlined it would make every caller's common case
// slower.
//
//go:noinline
func grow(dst []byte, n int) []byte {
	return slices.Grow(dst, n)
}
