// Package framing turns bytes into messages and messages into bytes.
//
// Everything here is a pure function over byte slices: no sockets, no
// goroutines, no locks, no allocation. A decoded message aliases the bytes that
// it was decoded from; the function that hands it out says for how long they live.
//
// Built in are Packet (the default), Line, MuxLine, LengthPrefix, Delimiter and
// Raw. Any other implementation of Framer serves as well.
package framing

import "bytes"

// Type tells what a message is for. Its values are the packet format's
// (docs/WIRE.md section 1).
type Type uint8

const (
	OneWay   Type = 0 // expects no answer
	Request  Type = 1 // expects one Response of the same ID
	Response Type = 2 // answers the Request of the same ID
)

// Compression says how a packet's payload is encoded on the wire.
type Compression uint8

const (
	CompressionNone Compression = 0
	CompressionZstd Compression = 1 // RFC 8878
	CompressionZlib Compression = 2 // RFC 1950
)

// Flags are the packet header's flag bits (docs/WIRE.md section 1). Bits
// without a name here travel untouched.
type Flags uint16

const (
	FlagFragmented   Flags = 0x0001 // more packets of this ID follow
	FlagHighPriority Flags = 0x0002 // passes ahead of queued normal messages
	FlagRouteTag     Flags = 0x0004 // Ext starts with a 4-byte route tag
	FlagFailed       Flags = 0x0100 // on a Response: the payload is u16 code + UTF-8 text
	FlagMore         Flags = 0x0200 // on a Response: another Response of this ID follows
	FlagCancel       Flags = 0x0400 // on a OneWay: cancels the Request of this ID
)

// Message is one unit of an application's conversation, over any transport.
//
// Payload and Ext of a message that somebody hands you are borrowed: they are
// valid only as long as the giver says (in a handler: until OnMessage returns).
// Clone keeps them. The zero Message is an empty OneWay with ID 0.
type Message struct {
	Payload []byte // the application's bytes, still compressed if Compression says so
	Ext     []byte // the packet's extension header, opaque, at most 65,535 bytes

	// Stream names the transport's stream that the message came on, so that a
	// reply returns there; 0 on transports with one stream.
	Stream uint64

	// In the order of the packet's header, which is written here as a whole.
	ID          uint32 // the originator's number; a Response echoes its Request's
	BizType     uint8  // the application's own, carried untouched
	Type        Type
	Compression Compression
	Text        bool // the message was, or is to be, a WebSocket text message
	Datagram    bool // the message came, or is to go, unreliably
	Flags       Flags
}

// Clone returns a copy of m that owns its bytes.
func (m *Message) Clone() *Message {
	c := *m
	c.Payload = bytes.Clone(m.Payload)
	c.Ext = bytes.Clone(m.Ext)
	return &c
}

// Framer finds message boundaries in a byte stream, and makes them. One Framer
// value serves any number of sessions at once, so it keeps no state between
// calls.
//
// A Framer may also have a method Need(b []byte) int, which returns the size in bytes of
// the frame at the start of b, of which only a part has arrived, or 0 where b
// doesn't tell. It lets the memory of a large frame grow to that size, not beyond.
type Framer interface {
	// Decode looks for one whole frame at the start of b.
	//
	// n > 0: the frame took b[:n] and every field of *m was set (those that only
	// a transport knows to their zero values). Payload and Ext alias b, with no
	// capacity beyond their length, so that appending to them can't overwrite
	// the next frame. Without bytes they are empty; whether they are then nil
	// is left open.
	//
	// n == 0 with a nil error: b, which may be empty, holds no whole frame yet;
	// call again with more bytes after the same ones. *m means nothing.
	//
	// An error is final: the stream can't be understood from here on. It wraps
	// ErrTooLarge or ErrMalformed. Which of the two doesn't depend on how the
	// stream was cut into pieces.
	//
	// seen is how many bytes at the start of b, from 0 to len(b), an earlier
	// call with the same max already looked at without finding a whole frame,
	// so that scanning framers cost linear time however small the pieces are.
	// max, at least 0, is the largest Ext plus Payload in bytes, without
	// headers and delimiters; a frame that declares more, or has grown beyond
	// it without ending, is refused before anything is kept for it.
	//
	// Decode doesn't allocate (except to describe an error), doesn't write to
	// b, and never blocks.
	Decode(b []byte, seen, max int, m *Message) (n int, err error)

	// Append appends m's frame to dst and returns the longer slice, like
	// append. It copies m's bytes, keeps none of them, and changes nothing in
	// *m. A message that this framing can't carry (a line with a line feed in
	// it) is an error that wraps ErrUnencodable, and dst comes back as it was.
	Append(dst []byte, m *Message) ([]byte, error)
}
