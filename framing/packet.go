package framing

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/millrace/millrace/internal/packet"
)

// PacketHeaderSize is the size in bytes of a packet's fixed header. The
// extension header follows it, and then the payload.
const PacketHeaderSize = packet.HeaderSize

// Packet is the default framing: a 16-byte header, then Ext, then Payload
// (docs/WIRE.md section 1). It carries every field of a Message except Stream, Text
// and Datagram.
//
// Compressed and fragmented packets, and flag bits without a name, are passed on
// unchanged; see Message.Compression and Message.Flags. The zero value is ready to
// use.
type Packet struct{}

var _ Framer = Packet{}

// Decode implements Framer. It reads the header again on each call, so it ignores
// seen.
//
// A wrong version is ErrMalformed from the first byte on, because a peer with
// another protocol may never send sixteen bytes. As soon as the header is complete,
// Ext plus Payload above max is ErrTooLarge, and an undefined type or compression
// is ErrMalformed.
func (Packet) Decode(b []byte, _, max int, m *Message) (n int, err error) {
	if len(b) < PacketHeaderSize {
		return 0, packetStart(b)
	}
	h := packet.ReadHeader(b)
	n, ok := h.Size(max)
	if !ok {
		return 0, packetRefused(b, max)
	}
	if n > len(b) {
		return 0, nil
	}
	fillPacket(m, h, b[PacketHeaderSize:n:n])
	return n, nil
}

// Need returns the size in bytes of the packet at the start of b, from its header.
// It returns 0 if the header isn't complete, or if Decode refuses it for every max.
func (Packet) Need(b []byte) int {
	if len(b) < PacketHeaderSize {
		return 0
	}
	n, ok := packet.ReadHeader(b).Size(math.MaxInt)
	if !ok {
		return 0
	}
	return n
}

// fillPacket sets every field of m from the packet with header h. body holds the
// bytes after the header; m aliases it. The function is just small enough to be
// inlined.
func fillPacket(m *Message, h packet.Header, body []byte) {
	m.Payload = body
	m.Ext = nil
	m.Stream = 0
	m.ID = uint32(h.Head)
	m.Flags = Flags(h.Tail)
	m.Type = Type(h.Head >> 40)
	m.BizType = uint8(h.Head >> 32)
	m.Compression = Compression(h.Head >> 48)
	m.Text = false
	m.Datagram = false
	if n := h.Tail >> 48; n != 0 {
		m.Ext, m.Payload = body[:n:n], body[n:]
	}
}

// packetStart checks a packet whose header isn't complete.
func packetStart(b []byte) error {
	if len(b) > 0 && b[0] != packet.Version {
		return packetMalformed("version", b[0])
	}
	return nil
}

// packetRefused returns the reason why Decode refuses the complete header at the
// start of b. It is a separate function, so that the hot path does not contain the
// formatting of errors. The order of the checks matters: without the right version
// the lengths have no meaning, and a length above the limit takes precedence over
// the other fields.
func packetRefused(b []byte, max int) error {
	if b[0] != packet.Version {
		return packetMalformed("version", b[0])
	}
	ext, payload := binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint32(b[10:])
	if body := int64(ext) + int64(payload); body > int64(min(max, math.MaxInt-PacketHeaderSize)) {
		return fmt.Errorf("%w: packet of %d bytes, limit %d", ErrTooLarge, body, max)
	}
	if b[2] > uint8(Response) {
		return packetMalformed("type", b[2])
	}
	return packetMalformed("compression", b[1])
}

// packetMalformed returns the error for a header field with an undefined value.
func packetMalformed(field string, value uint8) error {
	return fmt.Errorf("%w: packet %s %d", ErrMalformed, field, value)
}

// Append implements Framer. It is AppendPacket.
func (Packet) Append(dst []byte, m *Message) ([]byte, error) {
	return AppendPacket(dst, m)
}

// AppendPacket appends m to dst as one packet and returns the extended slice. It
// copies m's bytes and keeps none of them. It allocates only if dst lacks the
// capacity, and then once. It never blocks and may be called from any goroutine.
//
// An Ext above 65,535 bytes, a Payload above 4,294,967,295 bytes, and an undefined
// Type or Compression are errors that wrap ErrUnencodable. Then dst is returned
// unchanged.
func AppendPacket(dst []byte, m *Message) ([]byte, error) {
	if !packetEncodable(m) {
		return dst, packetUnencodable(m)
	}
	if size := PacketHeaderSize + len(m.Ext) + len(m.Payload); cap(dst)-len(dst) < size {
		// Start again with the larger dst. A call in the middle of the common path
		// would make the compiler spill all registers there.
		return AppendPacket(grow(dst, size), m)
	}
	at := len(dst)
	dst = dst[:at+PacketHeaderSize]
	packetHeader(m).Put((*[PacketHeaderSize]byte)(dst[at:]))
	if len(m.Ext) != 0 {
		dst = append(dst, m.Ext...)
	}
	return append(dst, m.Payload...), nil
}

// AppendHeader appends the fixed header of m's packet and m.Ext: all of the packet
// except the payload. It fails as AppendPacket does, allocates only if dst lacks the
// capacity, never blocks, and may be called from any goroutine.
func (Packet) AppendHeader(dst []byte, m *Message) ([]byte, error) {
	if !packetEncodable(m) {
		return dst, packetUnencodable(m)
	}
	var head [PacketHeaderSize]byte
	packetHeader(m).Put(&head)
	return append(append(dst, head[:]...), m.Ext...), nil
}

// packetEncodable reports whether m fits a packet.
func packetEncodable(m *Message) bool {
	return len(m.Ext) <= math.MaxUint16 && uint64(len(m.Payload)) <= math.MaxUint32 &&
		m.Type <= Response && m.Compression <= CompressionZlib
}

// packetHeader returns the fixed header of m's packet.
func packetHeader(m *Message) packet.Header {
	return packet.Header{
		Head: packet.Version<<56 | uint64(m.Compression)<<48 | uint64(m.Type)<<40 | uint64(m.BizType)<<32 | uint64(m.ID),
		Tail: uint64(len(m.Ext))<<48 | uint64(len(m.Payload))<<16 | uint64(m.Flags),
	}
}

// packetUnencodable returns the error for the field that AppendPacket refused.
func packetUnencodable(m *Message) error {
	switch {
	case m.Type > Response:
		return fmt.Errorf("%w: packet type %d", ErrUnencodable, m.Type)
	case m.Compression > CompressionZlib:
		return fmt.Errorf("%w: packet compression %d", ErrUnencodable, m.Compression)
	case len(m.Ext) > math.MaxUint16:
		return fmt.Errorf("%w: packet extension header of %d bytes, at most %d", ErrUnencodable, len(m.Ext), math.MaxUint16)
	default:
		return fmt.Errorf("%w: packet payload of %d bytes, at most %d", ErrUnencodable, len(m.Payload), uint32(math.MaxUint32))
	}
}
