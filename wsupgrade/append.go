package wsupgrade

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/framing"
)

var errNotText = fmt.Errorf("%w: WebSocket text that is not UTF-8", framing.ErrUnencodable)

// Append implements engine.Codec: it appends one frame for each message. On a
// packet path the frame carries the packet that framing.AppendPacket makes. On a
// plain path it carries the payload alone. A message whose extension header,
// compression or flags would be lost there is refused with an error that wraps
// framing.ErrUnencodable, and so is a text message that isn't UTF-8. In case of an
// error dst is returned unchanged.
func (c *codec) Append(dst []byte, m *framing.Message) ([]byte, error) {
	start, size := finBinary, len(m.Payload)
	if !c.plain {
		size += framing.PacketHeaderSize + len(m.Ext)
	} else if m.Text {
		// RFC 6455 section 5.6: the payload of a text frame "is text data
		// encoded as UTF-8".
		if !utf8.Valid(m.Payload) {
			return dst, errNotText
		}
		start = finText
	}
	if cap(dst)-len(dst) < ws.MaxHeaderSize+size {
		dst = slices.Grow(dst, ws.MaxHeaderSize+size)
	}
	var key uint32
	out := appendHeader(dst, start, uint64(size), c.client)
	if c.client {
		key = newMask()
		out = binary.LittleEndian.AppendUint32(out, key)
	}
	body := len(out)
	var err error
	if c.plain {
		out, err = framing.Raw{}.Append(out, m)
	} else {
		out, err = framing.AppendPacket(out, m)
	}
	if err != nil {
		return dst, err
	}
	if c.client {
		applyMask(out[body:], key)
	}
	return out, nil
}

// StatelessAppend implements engine.StatelessCodec.
func (c *codec) StatelessAppend() bool { return true }

// appendHeader appends a frame header up to the masking key, the length in its
// shortest form (RFC 6455 section 5.2).
func appendHeader(dst []byte, start byte, length uint64, masked bool) []byte {
	var mask byte
	if masked {
		mask = maskBit
	}
	switch {
	case length < length16:
		return append(dst, start, mask|byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, start, mask|length16), uint16(length))
	}
	return binary.BigEndian.AppendUint64(append(dst, start, mask|length64), length)
}
