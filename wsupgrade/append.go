package wsupgrade

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
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
	start, size, err := c.shape(m)
	if err != nil {
		return dst, err
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

// shape returns the first byte of m's frame, and the size of the frame's payload in
// bytes.
func (c *codec) shape(m *framing.Message) (start byte, size int, err error) {
	switch {
	case !c.plain:
		return finBinary, framing.PacketHeaderSize + len(m.Ext) + len(m.Payload), nil
	case !m.Text:
		return finBinary, len(m.Payload), nil
	// RFC 6455 section 5.6: the payload of a text frame "is text data encoded as UTF-8".
	case !utf8.Valid(m.Payload):
		return 0, 0, errNotText
	}
	return finText, len(m.Payload), nil
}

// AppendHeader implements engine.HeaderCodec. A client masks its payloads, so it cannot
// send them as they are.
func (c *codec) AppendHeader(dst []byte, m *framing.Message) ([]byte, error) {
	start, size, err := c.shape(m)
	switch {
	case err != nil:
		return dst, err
	case c.client:
		return dst, errors.ErrUnsupported
	}
	out := appendHeader(dst, start, uint64(size), false)
	if c.plain {
		out, err = framing.Raw{}.AppendHeader(out, m)
	} else {
		out, err = framing.Packet{}.AppendHeader(out, m)
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

// The forms of a server's frames: on plain paths, and on those with packets.
var formPlain, formPackets = engine.NewForm(), engine.NewForm()

// Form implements engine.FormCodec. A client's frames have no form: each has a mask of
// its own.
func (c *codec) Form() engine.Form {
	switch {
	case c.client:
		return 0
	case c.plain:
		return formPlain
	}
	return formPackets
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
