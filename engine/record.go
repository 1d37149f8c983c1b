package engine

import (
	"encoding/binary"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

// Kinds of ring records. Every record starts with the session's ID, 8 bytes
// little-endian.
const (
	recordMessages uint32 = iota + 1 // messages one after another, each in the layout below
	recordPackets                    // packets one after another, as received
	recordLarge                      // u32: index of a message in the core's large table
	recordOpen                       // none: OnOpen is due
	recordEnd                        // none: all messages before the end precede it
	recordClosed                     // none: the connection is gone, OnClose is due
)

const recordIDSize = 8

// A message inside a recordMessages record, little-endian:
//
//	 0  u32  size of all of this
//	 4  u32  message ID
//	 8  u16  flags
//	10  u16  length of the extension header
//	12  u8   type, 13 biz type, 14 compression, 15 form bits
//	16  u64  stream, if formStream is set
//	    extension header, payload
const messageHeaderSize = 16

// Form bits.
const (
	formText = 1 << iota
	formDatagram
	formStream
)

func messageSize(m *framing.Message) int {
	n := messageHeaderSize + len(m.Ext) + len(m.Payload)
	if m.Stream != 0 {
		n += 8
	}
	return n
}

// putMessage writes m to b, which has at least messageSize(m) bytes of space, and
// returns that size.
func putMessage(b []byte, m *framing.Message) int {
	n := messageSize(m)
	b = b[:n]
	form := uint32(0)
	if m.Text {
		form |= formText
	}
	if m.Datagram {
		form |= formDatagram
	}
	rest := b[messageHeaderSize:]
	if m.Stream != 0 {
		form |= formStream
		binary.LittleEndian.PutUint64(rest, m.Stream)
		rest = rest[8:]
	}
	binary.LittleEndian.PutUint64(b, uint64(n)|uint64(m.ID)<<32)
	binary.LittleEndian.PutUint64(b[8:], uint64(m.Flags)|uint64(len(m.Ext))<<16|
		uint64(m.Type)<<32|uint64(m.BizType)<<40|uint64(m.Compression)<<48|uint64(form)<<56)
	if len(m.Ext) > 0 {
		rest = rest[copy(rest, m.Ext):]
	}
	copy(rest, m.Payload)
	return n
}

// getMessage sets every field of m from the message at the start of b, which m then
// aliases, and returns the message's size.
func getMessage(b []byte, m *framing.Message) int {
	w0, w1 := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	n := int(uint32(w0))
	form := uint8(w1 >> 56)
	rest := b[messageHeaderSize:n:n]
	m.Stream = 0
	if form&formStream != 0 {
		m.Stream = binary.LittleEndian.Uint64(rest)
		rest = rest[8:]
	}
	extLen := int(uint16(w1 >> 16))
	m.Ext = nil
	if extLen > 0 {
		m.Ext = rest[:extLen:extLen]
		rest = rest[extLen:]
	}
	m.Payload = rest
	m.ID = uint32(w0 >> 32)
	m.Flags = framing.Flags(w1)
	m.Type = framing.Type(w1 >> 32)
	m.BizType = uint8(w1 >> 40)
	m.Compression = framing.Compression(w1 >> 48)
	m.Text = form&formText != 0
	m.Datagram = form&formDatagram != 0
	return n
}

// fillPacket sets every field of m to those of the packet with header h. body is the
// bytes after the header, which m aliases. The compiler would not inline a larger
// function.
func fillPacket(m *framing.Message, h packet.Header, body []byte) {
	m.Payload = body
	m.Ext = nil
	m.Stream = 0
	m.ID = uint32(h.Head)
	m.Flags = framing.Flags(h.Tail)
	m.Type = framing.Type(h.Head >> 40)
	m.BizType = uint8(h.Head >> 32)
	m.Compression = framing.Compression(h.Head >> 48)
	m.Text = false
	m.Datagram = false
	if n := h.Tail >> 48; n != 0 {
		m.Ext, m.Payload = body[:n:n], body[n:]
	}
}
