package framing

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"
)

// LengthPrefix puts the payload's length in bytes before the payload; the
// length doesn't count itself. Each message is a OneWay. The zero value is
// ready to use: four bytes, big-endian.
type LengthPrefix struct {
	// Size is the width of the length in bytes: 1, 2, 4 or 8. 0 (the default)
	// means 4. Leave it 0 with Varint.
	Size int

	// LittleEndian puts the length's lowest byte first. By default the highest byte
	// is first. Leave it false with Varint.
	LittleEndian bool

	// Varint writes the length as an unsigned LEB128 number instead: seven bits
	// a byte, the lowest first, at most ten bytes, as binary.AppendUvarint does.
	// Only the shortest form of a number is accepted. Default false.
	Varint bool
}

var _ Framer = LengthPrefix{}

// Validate returns an error that wraps ErrConfig and names the field, if the
// settings are invalid. A framer with invalid settings refuses every message.
func (l LengthPrefix) Validate() error {
	if l.valid() {
		return nil
	}
	switch {
	case l.Varint && l.Size != 0:
		return fmt.Errorf("%w: LengthPrefix.Size is %d, must be 0 with Varint", ErrConfig, l.Size)
	case l.Varint:
		return fmt.Errorf("%w: LengthPrefix.LittleEndian must be false with Varint", ErrConfig)
	default:
		return fmt.Errorf("%w: LengthPrefix.Size is %d, must be 1, 2, 4 or 8 (or 0 for 4)", ErrConfig, l.Size)
	}
}

// Decode implements Framer. It reads the length again on each call, so it ignores
// seen. A length above max is ErrTooLarge as soon as the length is complete, also
// one that would be negative as an int64. A varint of more than 64 bits, or not in
// its shortest form, is ErrMalformed. If Validate fails, all input is ErrMalformed.
func (l LengthPrefix) Decode(b []byte, _, max int, m *Message) (n int, err error) {
	if !l.valid() {
		return 0, fmt.Errorf("%w: %w", ErrMalformed, l.Validate())
	}
	var length uint64
	var head int
	if l.Varint {
		length, head, err = decodeVarint(b)
	} else {
		length, head = l.decodeFixed(b)
	}
	if err != nil || head == 0 {
		return 0, err
	}
	if length > math.MaxInt64 || int64(length) > int64(max) {
		return 0, fmt.Errorf("%w: length prefix of %d bytes, limit %d", ErrTooLarge, length, max)
	}
	if int64(len(b)-head) < int64(length) {
		return 0, nil
	}
	end := head + int(length)
	fillPlain(m, b[head:end:end], OneWay, 0)
	return end, nil
}

// Need returns the size in bytes of the frame at the start of b, from its length.
// It returns 0 if the length isn't complete, or if Decode refuses it for every max.
func (l LengthPrefix) Need(b []byte) int {
	if !l.valid() {
		return 0
	}
	var length uint64
	var head int
	if l.Varint {
		length, head, _ = decodeVarint(b)
	} else {
		length, head = l.decodeFixed(b)
	}
	if head == 0 || length > uint64(math.MaxInt-head) {
		return 0
	}
	return head + int(length)
}

// decodeFixed reads a length of Size bytes. head is the size of the length in
// bytes, 0 if they haven't all arrived.
func (l LengthPrefix) decodeFixed(b []byte) (length uint64, head int) {
	head = l.width()
	if len(b) < head {
		return 0, 0
	}
	switch head {
	case 1:
		length = uint64(b[0])
	case 2:
		length = uint64(binary.BigEndian.Uint16(b))
	case 4:
		length = uint64(binary.BigEndian.Uint32(b))
	default:
		length = binary.BigEndian.Uint64(b)
	}
	return l.order(length), head
}

// decodeVarint is decodeFixed for a varint.
func decodeVarint(b []byte) (length uint64, head int, err error) {
	for i, c := range b {
		// The tenth byte holds the 64th bit and nothing else.
		if i == binary.MaxVarintLen64-1 && c > 1 {
			return 0, 0, fmt.Errorf("%w: length prefix of more than 64 bits", ErrMalformed)
		}
		length |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			if c == 0 && i > 0 {
				return 0, 0, fmt.Errorf("%w: length prefix %d in %d bytes, not the shortest form", ErrMalformed, length, i+1)
			}
			return length, i + 1, nil
		}
	}
	return 0, 0, nil
}

// Append implements Framer. It refuses a payload whose length doesn't fit the
// prefix. Like all plain framings it also refuses Ext, Compression, and the flags
// that change a payload's meaning. It does not send ID, Type and BizType.
func (l LengthPrefix) Append(dst []byte, m *Message) ([]byte, error) {
	if err := checkPlain(m); err != nil {
		return dst, err
	}
	if !l.valid() {
		return dst, fmt.Errorf("%w: %w", ErrUnencodable, l.Validate())
	}
	length := uint64(len(m.Payload))
	if l.Varint {
		head := (bits.Len64(length|1) + 6) / 7
		dst = binary.AppendUvarint(reserve(dst, head+len(m.Payload)), length)
		return append(dst, m.Payload...), nil
	}
	head := l.width()
	if head < 8 && length>>(8*head) != 0 {
		return dst, fmt.Errorf("%w: payload of %d bytes, its length doesn't fit %d bytes", ErrUnencodable, length, head)
	}
	dst = reserve(dst, head+len(m.Payload))
	switch length = l.order(length); head {
	case 1:
		dst = append(dst, uint8(length))
	case 2:
		dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	case 4:
		dst = binary.BigEndian.AppendUint32(dst, uint32(length))
	default:
		dst = binary.BigEndian.AppendUint64(dst, length)
	}
	return append(dst, m.Payload...), nil
}

// valid is Validate for the hot path.
func (l LengthPrefix) valid() bool {
	if l.Varint {
		return l.Size == 0 && !l.LittleEndian
	}
	return l.Size == 0 || l.Size == 1 || l.Size == 2 || l.Size == 4 || l.Size == 8
}

// width returns the size in bytes of a fixed length.
func (l LengthPrefix) width() int {
	if l.Size == 0 {
		return 4
	}
	return l.Size
}

// order converts a length of width bytes between the wire's byte order and
// big-endian.
func (l LengthPrefix) order(length uint64) uint64 {
	if l.LittleEndian {
		return bits.ReverseBytes64(length) >> (64 - 8*l.width())
	}
	return length
}
