// Package packet reads and writes the headers of packets (docs/WIRE.md section 1)
// on the hot path. It consists of pure functions over byte slices, without messages
// and errors; framing.Packet adds both.
package packet

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// HeaderSize is the size in bytes of a packet's fixed header. The extension
// header follows it, and then the payload.
const HeaderSize = 16

// Version is the first byte of every packet: the only version of the format.
const Version = 1

// response is the type of a packet that answers a request; 0 expects no answer.
const response = 2

// A header's first half must equal Version<<56 in the bits of fixed: the version,
// and the upper six bits of compression and type. Compression and type both go from
// 0 to 2. So their lower two bits must not both be set; low marks the lowest bit of
// each.
const (
	fixed = 0xff<<56 | 0xfc<<48 | 0xfc<<40
	low   = 1<<48 | 1<<40
)

// Header is the fixed header of a packet as two numbers. Only Size checks them.
// Its functions are small enough to be inlined. The fields are shifted out of
// Head and Tail directly: a call for each field, though inlined, keeps the
// compiler from joining the stores into a message.
type Header struct {
	// Head is version<<56 | compression<<48 | type<<40 | biz_type<<32 | message_id.
	Head uint64
	// Tail is ext_len<<48 | payload_len<<16 | flags.
	Tail uint64
}

// ReadHeader reads the first HeaderSize bytes of b, which must be there.
func ReadHeader(b []byte) Header {
	return Header{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

// Size returns the size of the whole packet in bytes. ok is false if the version,
// the type or the compression doesn't exist, or if extension header and payload
// together are above max.
func (h Header) Size(max int) (n int, ok bool) {
	// A sum of 16 and 32 bits can't overflow 64 bits. On a 32-bit machine int(body)
	// may be cut off, but then ok is false.
	body := h.Tail>>48 + h.Tail>>16&math.MaxUint32
	return HeaderSize + int(body),
		h.Head&fixed == Version<<56 && h.Head&(h.Head>>1)&low == 0 && body <= uint64(max) && body <= math.MaxInt-HeaderSize
}

// Put writes the header's two big-endian halves to dst. It uses ReverseBytes64,
// because the compiler splits PutUint64 of binary.BigEndian into five stores if the
// first byte is a constant.
func (h Header) Put(dst *[HeaderSize]byte) {
	binary.LittleEndian.PutUint64(dst[:8], bits.ReverseBytes64(h.Head))
	binary.LittleEndian.PutUint64(dst[8:], bits.ReverseBytes64(h.Tail))
}

// Run finds the whole packets at the start of b by their headers. They are count
// packets in the first size bytes, and size is at most limit. The next bytes, if
// there are any, are a part of a packet, a packet that Size refuses for max, or one
// that doesn't fit limit.
func Run(b []byte, max, limit int) (size, count int) {
	rest := b[:min(len(b), limit)]
	for len(rest) >= HeaderSize {
		n, ok := ReadHeader(rest).Size(max)
		if !ok || n > len(rest) {
			break
		}
		rest = rest[n:]
		size += n
		count++
	}
	return size, count
}

// PutReply fills dst, of exactly HeaderSize plus len(payload) bytes, with the
// packet that answers a packet with bizType and id: a response if request is true,
// otherwise a packet that expects no answer. The reply has no extension header, no
// flags and no compression. payload must be below 4 GiB and must not overlap with
// dst.
func PutReply(dst []byte, request bool, bizType uint8, id uint32, payload []byte) {
	h := Header{Version<<56 | uint64(bizType)<<32 | uint64(id), uint64(len(payload)) << 16}
	if request {
		h.Head |= response << 40
	}
	h.Put((*[HeaderSize]byte)(dst))
	copy(dst[HeaderSize:], payload)
}
