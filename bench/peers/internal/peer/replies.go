package peer

import (
	"encoding/binary"
	"fmt"

	"github.com/millrace/millrace/framing"
)

// AppendReplies appends to out the answers to the complete packets at the start of
// in: the answer to a Request is its Response, any other packet comes back unchanged.
// It returns the longer out and the number of bytes of in that it used; the rest is
// the start of a packet. It doesn't change in. An error means that the peer sent other
// bytes than packets.
func AppendReplies(out, in []byte) (longer []byte, taken int, err error) {
	var m framing.Message
	for taken < len(in) {
		n, err := (framing.Packet{}).Decode(in[taken:], 0, MaxMessageSize, &m)
		if err != nil {
			return out, taken, err
		}
		if n == 0 {
			break
		}
		if m.Type == framing.Request {
			m.Type = framing.Response
		}
		if out, err = framing.AppendPacket(out, &m); err != nil {
			return out, taken, err
		}
		taken += n
	}
	return out, taken, nil
}

// PacketSize returns the size in bytes of the packet that begins with head,
// which is framing.PacketHeaderSize bytes long.
func PacketSize(head []byte) (int, error) {
	body := int64(binary.BigEndian.Uint16(head[8:])) + int64(binary.BigEndian.Uint32(head[10:]))
	if body > MaxMessageSize {
		return 0, fmt.Errorf("a packet of %d bytes: %w", body, framing.ErrTooLarge)
	}
	return framing.PacketHeaderSize + int(body), nil
}
