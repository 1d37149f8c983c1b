package framing

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// PacketHeaderSize is the size in bytes of a packet's fixed header. The
// extension header follows it, and then the payload.
const PacketHeaderSize = 16

// packetVersion is the only version of the packet format that there is.
const packetVersion = 1

// A header's first half must be packetVersion<<56 in the bits of packetFixed: the
// version, and the upper six bits of compression and type, which both go from 0
// to 2. That neither is 3 shows in the lower two, at packetLow.
const (
	packetFixed = 0xff<<56 | 0xfc<<48 | 0xfc<<40
	packetLow   = 1<<48 | 1<<40
)

// Packet is the default framing: a 16-byte header that carries every field of a
// Message but Stream, Text and Datagram, then Ext, then Payload (docs/WIRE.md
// section 1).
//
// Compressed and fragmented packets, and flag bits without a name, pass through
// untouched: Compression and Flags say what the payload is. The zero value is
// ready to use.
type Packet struct{}

var _ Framer = Packet{}

// Decode implements Framer. It reads the header again on each call, so it needs
// no seen.
//
// A wrong version is reported from the first byte on: a peer that speaks
// something else may never send sixteen. Once the header is whole, Ext plus
// Payload above max is ErrTooLarge, and a type or a compression that doesn't
// exist is ErrMalformed, before any byte behind the header has arrived.
func (Packet) Decode(b []byte, _, max int, m *Message) (n int, err error) {
	if len(b) < PacketHeaderSize {
		return 0, packetStart(b)
	}
	h := ReadPacketHeader(b)
	n, ok := h.Size(max)
	if !ok {
		return 0, packetRefused(b, max)
	}
	if n > len(b) {
		return 0, nil
	}
	h.Fill(m, b[PacketHeaderSize:n:n])
	return n, nil
}

// PacketRun finds the packets that lie whole at the start of b, without looking
// into them: they are the first size bytes, at most limit, and count many. What
// follows is the start of a packet, one that Decode refuses, or one that doesn't
// fit the limit. max is as for Decode.
func PacketRun(b []byte, max, limit int) (size, count int) {
	rest := b[:min(len(b), limit)]
	for len(rest) >= PacketHeaderSize {
		n, ok := ReadPacketHeader(rest).Size(max)
		if !ok || n > len(rest) {
			break
		}
		rest = rest[n:]
		size += n
		count++
	}
	return size, count
}

// PacketHeader is the fixed header of a packet as it was read, not judged: for
// those to whom a call of Decode a packet is too much. Its methods are small
// enough to be inlined.
type PacketHeader struct {
	head uint64 // version, compression, type, biz_type, message_id
	tail uint64 // ext_len, payload_len, flags
}

// ReadPacketHeader reads the first PacketHeaderSize bytes of b, which must be
// there.
func ReadPacketHeader(b []byte) PacketHeader {
	return PacketHeader{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// Size returns how many bytes the packet has in all, and not ok for one that
// Decode, which says why, would refuse; max is as there.
func (h PacketHeader) Size(max int) (n int, ok bool) {
	// A sum of 16 and 32 bits can't overflow 64, nor can it be cut off where an
	// int has only 32.
	body := h.tail>>48 + h.tail>>16&math.MaxUint32
	return PacketHeaderSize + int(body),
		h.head&packetFixed == packetVersion<<56 && h.head&(h.head>>1)&packetLow == 0 &&
			body <= uint64(max) && body <= math.MaxInt-PacketHeaderSize
}

// Fill sets every field of m to the packet's, whose bytes behind the header are
// body, which m aliases.
func (h PacketHeader) Fill(m *Message, body []byte) {
	m.Payload = body
	m.Ext = nil
	m.Stream = 0
	m.ID = uint32(h.head)
	m.Flags = Flags(h.tail)
	m.Type = Type(h.head >> 40)
	m.BizType = uint8(h.head >> 32)
	m.Compression = Compression(h.head >> 48)
	m.Text = false
	m.Datagram = false
	if n := h.tail >> 48; n != 0 {
		m.Ext, m.Payload = body[:n:n], body[n:]
	}
}

// packetStart judges a packet of which less than the header has arrived.
func packetStart(b []byte) error {
	if len(b) > 0 && b[0] != packetVersion {
		return packetMalformed("version", b[0])
	}
	return nil
}

// packetRefused says why Decode refuses the whole header at the start of b; it
// stands apart so that accepted packets pay nothing for the making of errors.
// The order counts: the version tells whether the length means anything, and a
// length that lies is refused before anything else is looked at.
func packetRefused(b []byte, max int) error {
	if b[0] != packetVersion {
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

// packetMalformed describes a header field whose value the format doesn't have.
func packetMalformed(field string, value uint8) error {
	return fmt.Errorf("%w: packet %s %d", ErrMalformed, field, value)
}

// Append implements Framer. It is AppendPacket.
func (Packet) Append(dst []byte, m *Message) ([]byte, error) {
	return AppendPacket(dst, m)
}

// AppendPacket appends m to dst as one packet and returns the longer slice. It
// copies m's bytes and keeps none of them, allocates only if dst lacks the
// capacity, and then once. It never blocks and may be called from anywhere.
//
// An Ext above 65,535 bytes, a Payload above 4,294,967,295 bytes, and a Type or
// Compression that the format doesn't have are errors that wrap ErrUnencodable;
// dst then comes back as it was.
func AppendPacket(dst []byte, m *Message) ([]byte, error) {
	if len(m.Ext) > math.MaxUint16 || uint64(len(m.Payload)) > math.MaxUint32 ||
		m.Type > Response || m.Compression > CompressionZlib {
		return dst, packetUnencodable(m)
	}
	if size := PacketHeaderSize + len(m.Ext) + len(m.Payload); cap(dst)-len(dst) < size {
		// Once more from the start, so that the usual way through has no call
		// in its middle that would push everything out of the registers.
		return AppendPacket(grow(dst, size), m)
	}
	at := len(dst)
	dst = dst[:at+PacketHeaderSize]
	putPacketHeader((*[PacketHeaderSize]byte)(dst[at:]),
		packetVersion<<56|uint64(m.Compression)<<48|uint64(m.Type)<<40|uint64(m.BizType)<<32|uint64(m.ID),
		uint64(len(m.Ext))<<48|uint64(len(m.Payload))<<16|uint64(m.Flags))
	if len(m.Ext) != 0 {
		dst = append(dst, m.Ext...)
	}
	return append(dst, m.Payload...), nil
}

// putPacketHeader writes the header's two big-endian halves. Big-endian by way
// of ReverseBytes64: PutUint64 of binary.BigEndian falls apart into five stores
// where the first byte is a constant.
func putPacketHeader(header *[PacketHeaderSize]byte, head, tail uint64) {
	binary.LittleEndian.PutUint64(header[:8], bits.ReverseBytes64(head))
	binary.LittleEndian.PutUint64(header[8:], bits.ReverseBytes64(tail))
}

// PutPacketReply fills dst, of exactly PacketHeaderSize plus payload bytes, with
// the packet that answers m with payload: a Response to a Request, else a
// OneWay, with m's ID and BizType and nothing else of it. It is what AppendPacket
// does for a server's usual message, without making a Message of it first.
// payload is below 4 GiB and may not overlap with dst.
func PutPacketReply(dst []byte, m *Message, payload []byte) {
	head := uint64(packetVersion<<56) | uint64(m.BizType)<<32 | uint64(m.ID) // a OneWay
	if m.Type == Request {
		head |= uint64(Response) << 40
	}
	header := (*[PacketHeaderSize]byte)(dst)
	putPacketHeader(header, head, uint64(len(payload))<<16)
	copy(dst[PacketHeaderSize:], payload)
}

// packetUnencodable says which field AppendPacket refused.
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
