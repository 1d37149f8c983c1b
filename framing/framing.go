// Package framing decodes bytes into messages and encodes messages into bytes.
//
// Everything here is a pure function over byte slices: no sockets, no goroutines,
// no locks. Decoding does not allocate, and encoding allocates only if dst is too
// small. A decoded message aliases the bytes from which it was decoded; the
// function that returns or passes a message documents how long they stay valid.
//
// Built in are Packet (the default), Line, MuxLine, LengthPrefix, Delimiter and
// Raw. Other implementations of Framer can be used in the same way.
package framing

import "bytes"

// Type is the role of a message. Its values are the packet format's (docs/WIRE.md
// section 1).
type Type uint8

const (
	OneWay   Type = 0 // expects no answer
	Request  Type = 1 // expects one Response of the same ID
	Response Type = 2 // answers the Request of the same ID
)

// Compression is the encoding of a packet's payload on the wire. This module
// neither compresses nor decompresses; the application does.
type Compression uint8

const (
	CompressionNone Compression = 0
	CompressionZstd Compression = 1 // RFC 8878
	CompressionZlib Compression = 2 // RFC 1950
)

// Flags are the packet header's flag bits (docs/WIRE.md section 1). Bits without a
// name here are carried unchanged. No part of Millrace acts on FlagHighPriority and
// FlagRouteTag.
type Flags uint16

const (
	FlagFragmented   Flags = 0x0001 // more packets of this ID follow
	FlagHighPriority Flags = 0x0002 // may pass ahead of queued normal messages
	FlagRouteTag     Flags = 0x0004 // Ext starts with a 4-byte route tag
	FlagFailed       Flags = 0x0100 // on a Response: the payload is u16 code + UTF-8 text
	FlagMore         Flags = 0x0200 // on a Response: another Response of this ID follows
	FlagCancel       Flags = 0x0400 // on a OneWay: cancels the Request of this ID
)

// Message is one message of an application, over any transport.
//
// Payload and Ext of a message that you receive are borrowed: they are valid as
// long as the function that passes the message documents (in a handler: until
// OnMessage returns). To keep a message, use Clone. The zero Message is an empty
// OneWay with ID 0.
type Message struct {
	Payload []byte // the application's bytes, compressed as Compression names
	Ext     []byte // the packet's extension header, opaque, at most 65,535 bytes

	// Stream is the number of the transport's stream on which the message arrived,
	// so that a reply uses the same stream; 0 on transports with one stream.
	Stream uint64

	// Grouped so that the compiler can store the header fields with few
	// instructions.
	ID          uint32 // chosen by the sender of a Request; its Response has the same
	BizType     uint8  // the application's, carried unchanged
	Type        Type
	Compression Compression
	Text        bool // the message arrived as, or will be sent as, a WebSocket text message
	Datagram    bool // the message arrived as, or will be sent as, an unreliable datagram
	Flags       Flags
}

// Clone returns a copy of m that owns its bytes.
func (m *Message) Clone() *Message {
	c := *m
	c.Payload = bytes.Clone(m.Payload)
	c.Ext = bytes.Clone(m.Ext)
	return &c
}

// Framer finds message boundaries in a byte stream, and writes them. One Framer
// value serves any number of sessions at the same time, so it keeps no state
// between calls.
//
// A Framer may also have a method Need(b []byte) int. It returns the size in bytes
// of the incomplete frame at the start of b, or 0 if b does not show it. Then the
// buffer of a large frame grows to that size, not beyond.
//
// A Framer whose frames end with the payload, unchanged, may have a method
// AppendHeader(dst []byte, m *Message) ([]byte, error). It appends what Append
// appends before the payload, and fails as Append does. Then a large payload can be
// sent without a copy.
type Framer interface {
	// Decode looks for one whole frame at the start of b.
	//
	// n > 0: the frame was b[:n], and Decode has set every field of *m, those that
	// only a transport can set to their zero values. Payload and Ext alias b, with
	// no capacity beyond their length, so that an append to them can't overwrite
	// the next frame. If they are empty, they may or may not be nil.
	//
	// n == 0 with a nil error: b, which may be empty, holds no whole frame yet.
	// Call Decode again with the same bytes and more after them. *m is undefined.
	//
	// An error is final: the rest of the stream can't be decoded. The error wraps
	// ErrTooLarge or ErrMalformed. Which of the two does not depend on how the
	// stream was cut into pieces.
	//
	// seen is how many bytes at the start of b, from 0 to len(b), an earlier call
	// with the same max has already searched without finding a whole frame. So
	// framers that search need linear time even for small pieces. max, at least 0,
	// is the largest sum of Ext and Payload in bytes, without headers and
	// delimiters. A frame that declares more, or has grown beyond it without an
	// end, is refused before memory is allocated for it.
	//
	// Decode does not allocate (except for an error), does not write to b, and
	// never blocks.
	Decode(b []byte, seen, max int, m *Message) (n int, err error)

	// Append appends m's frame to dst and returns the extended slice, like append.
	// It copies m's bytes, keeps none of them, does not change *m, and never
	// blocks. For a message that this framing can't carry (a line with a line feed
	// in it) it returns an error that wraps ErrUnencodable, and dst unchanged.
	Append(dst []byte, m *Message) ([]byte, error)
}
