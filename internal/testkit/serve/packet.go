package serve

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/millrace/millrace/framing"
)

// Packet returns m as a packet. It panics if m is too large for one, because its
// argument is a constant of a test.
func Packet(m *framing.Message) []byte {
	b, err := framing.AppendPacket(nil, m)
	if err != nil {
		panic(err)
	}
	return b
}

// maxPacket is the size in bytes of the largest packet body that ReadPacket reads.
const maxPacket = 64 << 20

// ReadPacket reads one packet. It returns io.EOF if r ends before the packet
// begins, and io.ErrUnexpectedEOF if r ends inside of it.
func ReadPacket(r io.Reader) (*framing.Message, error) {
	head := make([]byte, framing.PacketHeaderSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	// docs/WIRE.md: the lengths of the extension header and of the payload.
	size := int(binary.BigEndian.Uint16(head[8:])) + int(binary.BigEndian.Uint32(head[10:]))
	if size > maxPacket {
		return nil, fmt.Errorf("a packet of %d bytes", size)
	}
	b := make([]byte, len(head)+size)
	if n, err := io.ReadFull(r, b[copy(b, head):]); err != nil {
		return nil, fmt.Errorf("after %d of %d bytes: %w", n, size, io.ErrUnexpectedEOF)
	}
	var m framing.Message
	if n, err := (framing.Packet{}).Decode(b, 0, maxPacket, &m); err != nil || n != len(b) {
		return nil, fmt.Errorf("a packet of %d bytes was decoded as %d: %w", len(b), n, err)
	}
	return &m, nil
}
