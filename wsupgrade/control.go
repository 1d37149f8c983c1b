package wsupgrade

import (
	"encoding/binary"
	"sync"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// control handles the control frame b, whose unmasked payload starts at head.
func (c *codec) control(ctl control, op ws.OpCode, b []byte, head int) error {
	switch op {
	case ws.OpPing:
		c.pong(ctl, b, head)
		return nil
	case ws.OpClose:
		return readClose(b[head:])
	}
	// RFC 6455 section 5.5.3: "A Pong frame MAY be sent unsolicited", and "A
	// response to an unsolicited Pong frame is not expected".
	return nil
}

// pong answers the ping b. A failed SendControl is no error. While 4 KiB of pongs
// wait to be written, further pings are not answered. RFC 6455 section 5.5.3 does
// not require an answer to each ping: an endpoint "MAY elect to send a Pong frame
// for only the most recently processed Ping frame". A session that is closing
// answers none.
func (c *codec) pong(ctl control, b []byte, head int) {
	if !c.client {
		// The answer has two bytes of header and the same payload. It is written
		// over the end of the masking key.
		b = b[head-2:]
		b[0], b[1] = finPong, byte(len(b)-2)
		_ = ctl.SendControl(b)
		return
	}
	scratch := controlFrames.Get().(*controlFrame)
	_ = ctl.SendControl(appendControl(scratch[:0], finPong, b[head:], true))
	controlFrames.Put(scratch)
}

// AppendPing implements engine.PingCodec.
func (c *codec) AppendPing(dst []byte) []byte { return appendControl(dst, finPing, nil, c.client) }

// controlFrame has space for any masked control frame.
type controlFrame [2 + maskSize + ws.MaxControlFramePayloadSize]byte

var controlFrames = sync.Pool{New: func() any { return new(controlFrame) }}

// appendControl appends a control frame of up to 125 bytes of payload.
func appendControl(dst []byte, start byte, payload []byte, masked bool) []byte {
	if !masked {
		return append(append(dst, start, byte(len(payload))), payload...)
	}
	key := newMask()
	dst = append(dst, start, maskBit|byte(len(payload)))
	dst = binary.LittleEndian.AppendUint32(dst, key)
	at := len(dst)
	dst = append(dst, payload...)
	applyMask(dst[at:], key)
	return dst
}

var (
	errCloseLength = violate(ws.StatusProtocolError, "close frame of one byte")
	errCloseCode   = violate(ws.StatusProtocolError, "close code that may not be sent")
	errCloseReason = violate(ws.StatusInvalidFramePayloadData, "close reason that is not UTF-8")
)

// readClose turns a close frame's payload into the reason why the session ends.
func readClose(payload []byte) error {
	if len(payload) == 0 {
		// RFC 6455 section 7.1.5: without a status code "_The WebSocket
		// Connection Close Code_ is considered to be 1005".
		return &CloseError{Code: uint16(ws.StatusNoStatusRcvd), received: true}
	}
	// RFC 6455 section 5.5.1: "If there is a body, the first two bytes of the
	// body MUST be a 2-byte unsigned integer".
	if len(payload) < 2 {
		return errCloseLength
	}
	code, reason := binary.BigEndian.Uint16(payload), payload[2:]
	if !sendable(code) {
		return errCloseCode
	}
	// RFC 6455 section 5.5.1: "the body MAY contain UTF-8-encoded data".
	if !utf8.Valid(reason) {
		return errCloseReason
	}
	return &CloseError{Code: code, Reason: string(reason), received: true}
}

// sendable reports whether a close frame may carry code.
//
// RFC 6455 section 7.4.2 reserves 3000 to 4999 for libraries and applications, and
// below that allows only defined codes. Section 7.4.1 defines 1000 to 1003 and 1007
// to 1011. Its other codes "MUST NOT be set as a status code in a Close control
// frame". IANA's registry added 1012 to 1014.
func sendable(code uint16) bool {
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return true
	}
	return false
}
