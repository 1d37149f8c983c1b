package wsupgrade

import (
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/framing"
)

var (
	errTextNotUTF8   = violate(ws.StatusInvalidFramePayloadData, "text message that is not UTF-8")
	errPacketPartial = &violation{
		code:  ws.StatusInvalidFramePayloadData,
		text:  "binary message that is not exactly one packet",
		cause: framing.ErrMalformed,
	}
)

// decode is Decode for any session. It decodes one frame at a time, and only after
// all its bytes have arrived. So it unmasks the payload once, in place, and a
// message in one frame is delivered without a copy.
//
// This is the fast path for the usual case, a whole message in a frame with a short
// header. decodeFrame would return the same and take twice as long.
func (c *codec) decode(ctl control, b []byte, seen int, m *framing.Message) (n int, ok bool, err error) {
	if len(b) < ws.MinHeaderSize || b[0] != finBinary && (b[0] != finText || !c.plain) || c.parts != nil || !c.open.Load() {
		return c.decodeFrame(ctl, b, seen, m)
	}
	head, length := ws.MinHeaderSize, int(b[1])
	if !c.client {
		head, length = head+maskSize, length-maskBit // negative without a mask
	}
	n = head + length
	if uint(length) >= length16 || length > int(c.limit) || n > len(b) {
		return c.decodeFrame(ctl, b, seen, m)
	}
	payload := b[head:n:n]
	if !c.client {
		applyMask(payload, binary.LittleEndian.Uint32(b[ws.MinHeaderSize:]))
	}
	err = c.deliver(m, payload, b[0] == finText)
	return n, err == nil, err
}

// decodeFrame is decode without the fast path.
func (c *codec) decodeFrame(ctl control, b []byte, seen int, m *framing.Message) (n int, ok bool, err error) {
	if !c.open.Load() {
		n, err = c.accept(ctl, b, seen)
		return n, false, err
	}
	if c.parts != nil && c.parts.delivered && len(b) > 0 {
		c.release()
		return heldBack, false, nil
	}
	f, err := c.readFrame(b)
	if err != nil || f.head == 0 || len(b)-f.head < f.length {
		return 0, false, err
	}
	n = f.head + f.length
	payload := b[f.head:n:n]
	if f.key != 0 {
		applyMask(payload, f.key)
	}
	switch {
	case f.op.IsControl():
		return n, false, c.control(ctl, f.op, b[:n], f.head)
	case f.fin && f.op != ws.OpContinuation:
		err = c.deliver(m, payload, f.op == ws.OpText)
		return n, err == nil, err
	}
	if err := c.assemble(f, payload); err != nil {
		return n, false, err
	}
	if !f.fin {
		return n, false, nil
	}
	p := c.parts
	if err := c.deliver(m, p.buf[:len(p.buf):len(p.buf)], p.text); err != nil {
		return n, false, err
	}
	p.delivered = true
	return n - heldBack, true, nil
}

// deliver sets m to the message in payload. m aliases payload.
func (c *codec) deliver(m *framing.Message, payload []byte, text bool) error {
	if !c.plain {
		return c.deliverPacket(m, payload)
	}
	// RFC 6455 section 8.1: an endpoint that finds "that the byte stream is
	// not, in fact, a valid UTF-8 stream [...] MUST _Fail the WebSocket
	// Connection_".
	if text && !utf8.Valid(payload) {
		return errTextNotUTF8
	}
	// Field by field: for a composite literal the compiler would build a copy on
	// the stack first.
	m.Payload = payload
	m.Ext = nil
	m.Stream = 0
	m.ID = 0
	m.Flags = 0
	m.Type = framing.OneWay
	m.BizType = 0
	m.Compression = framing.CompressionNone
	m.Text = text
	m.Datagram = false
	return nil
}

// deliverPacket sets m to the packet in payload, which must be exactly one.
func (c *codec) deliverPacket(m *framing.Message, payload []byte) error {
	n, err := framing.Packet{}.Decode(payload, 0, int(c.limit)-framing.PacketHeaderSize, m)
	if err != nil {
		return packetViolation(err)
	}
	if n == 0 || n != len(payload) {
		return errPacketPartial
	}
	return nil
}

// packetViolation adds a close code to an error of framing.Packet.
func packetViolation(err error) error {
	return &violation{
		code:  codeOf(err, ws.StatusInvalidFramePayloadData),
		text:  fmt.Sprintf("binary message that is not a packet: %v", err),
		cause: err,
	}
}
