package framing

import (
	"fmt"
	"slices"
)

// The plain framings are all except Packet: on the wire they have a payload, and
// MuxLine an ID, but none of the other fields of a Message. They drop the fields
// that only describe a message (Type, BizType, FlagHighPriority, flags without a
// name). They refuse a message with other data (Ext), or with fields that change
// how its payload must be read, because that must not get lost in silence.

// plainRefused are the flags that change the meaning of a payload. Without them the
// peer would take a fragment for a whole message, an error for a response, or a
// cancellation for an empty request.
const plainRefused = FlagFragmented | FlagFailed | FlagMore | FlagCancel

// checkPlain returns an error that wraps ErrUnencodable if a plain framing would
// lose an essential field of m.
func checkPlain(m *Message) error {
	if len(m.Ext) == 0 && m.Compression == CompressionNone && m.Flags&plainRefused == 0 {
		return nil
	}
	return plainError(m)
}

// plainError returns the error for the field that checkPlain refused. It is a
// separate function, so that checkPlain is small enough to be inlined.
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

// fillPlain sets every field of *m, so that no field of an earlier message remains.
// It does so field by field, because the compiler builds a composite literal on the
// stack first and then copies it, at twice the cost.
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

// window returns the part of b that a frame of max payload bytes and overhead bytes
// around them can occupy. A search of only that part bounds the work that a frame
// without an end can cause.
func window(b []byte, max, overhead int) []byte {
	if len(b)-overhead > max {
		return b[:max+overhead]
	}
	return b
}

// endless returns the error for a frame that has grown beyond max without an end.
func endless(kind string, max int) error {
	return fmt.Errorf("%w: %s without an end, limit %d", ErrTooLarge, kind, max)
}

// reserve returns dst with capacity for n more bytes. It allocates at most once.
func reserve(dst []byte, n int) []byte {
	if cap(dst)-len(dst) < n {
		return grow(dst, n)
	}
	return dst
}

// grow is the rare case of reserve. Inlined, it would make the common case of every
// caller slower.
//
//go:noinline
func grow(dst []byte, n int) []byte {
	return slices.Grow(dst, n)
}
