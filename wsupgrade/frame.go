package wsupgrade

import (
	"encoding/binary"
	"fmt"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// The first byte of a frame (RFC 6455 section 5.2): FIN, three reserved bits, four
// bits of opcode. In the second byte the high bit is set if a masking key follows
// the length.
const (
	finBit    = 0x80
	rsvBits   = 0x70
	opBits    = 0x0f
	maskBit   = 0x80
	finBinary = finBit | byte(ws.OpBinary)
	finText   = finBit | byte(ws.OpText)
	finPing   = finBit | byte(ws.OpPing)
	finPong   = finBit | byte(ws.OpPong)
	finClose  = finBit | byte(ws.OpClose)

	length16 = 126 // in the 7 bits of length: 16 bits of it follow
	length64 = 127 // in the 7 bits of length: 64 bits of it follow
	maskSize = 4   // bytes of masking key
)

// frame is a decoded frame header. The zero frame means that the header is not
// complete yet.
type frame struct {
	head   int    // bytes of header, the masking key included; 0 only in the zero frame
	length int    // bytes of payload
	key    uint32 // the masking key, little-endian; 0 without a mask
	op     ws.OpCode
	fin    bool
}

// Violations that a frame's header shows.
var (
	errReservedBits     = violate(ws.StatusProtocolError, "a reserved bit is set and no extension was agreed on")
	errReservedOpcode   = violate(ws.StatusProtocolError, "reserved opcode")
	errNotMasked        = violate(ws.StatusProtocolError, "a client's frame is not masked")
	errMasked           = violate(ws.StatusProtocolError, "a server's frame is masked")
	errControlTooLong   = violate(ws.StatusProtocolError, "control frame above 125 bytes")
	errControlFragment  = violate(ws.StatusProtocolError, "fragmented control frame")
	errNothingToGoOn    = violate(ws.StatusProtocolError, "continuation frame without a message to continue")
	errMessageUnderWay  = violate(ws.StatusProtocolError, "new message inside a fragmented one")
	errLengthNotMinimal = violate(ws.StatusProtocolError, "length not in its shortest form")
	errLengthNegative   = violate(ws.StatusProtocolError, "length with its most significant bit set")
	errTextOnPackets    = violate(ws.StatusUnsupportedData, "text message where packets are spoken")
)

// readFrame reads the frame header at the start of b and checks it completely, so
// that no byte of an invalid frame is stored. If the header is not complete, it
// returns the zero frame and no error.
func (c *codec) readFrame(b []byte) (f frame, err error) {
	if len(b) < ws.MinHeaderSize {
		return frame{}, nil
	}
	if err := c.checkStart(b[0], b[1]); err != nil {
		return frame{}, err
	}
	f = frame{head: ws.MinHeaderSize, length: int(b[1] &^ maskBit), op: ws.OpCode(b[0] & opBits), fin: b[0]&finBit != 0}
	if f.length >= length16 {
		size, n, err := readLength(b, f.length)
		if n == 0 {
			return frame{}, err
		}
		if held := c.held(); size > uint64(c.limit)-uint64(held) {
			return frame{}, tooLarge(size, held, c.limit)
		}
		f.length, f.head = int(size), n
	} else if held := c.held(); f.op.IsData() && f.length > int(c.limit)-held {
		return frame{}, tooLarge(uint64(f.length), held, c.limit)
	}
	if !c.client {
		if len(b) < f.head+maskSize {
			return frame{}, nil
		}
		f.key = binary.LittleEndian.Uint32(b[f.head:])
		f.head += maskSize
	}
	return f, nil
}

// readLength reads an extended length. n is the size of the header in bytes up to
// the end of the length, or 0 if the length is not complete.
//
// RFC 6455 section 5.2: "the minimal number of bytes MUST be used to encode the
// length", and of 64 bits "the most significant bit MUST be 0".
func readLength(b []byte, short int) (length uint64, n int, err error) {
	if short == length16 {
		if len(b) < 4 {
			return 0, 0, nil
		}
		length = uint64(binary.BigEndian.Uint16(b[2:]))
		if length < length16 {
			return 0, 0, errLengthNotMinimal
		}
		return length, 4, nil
	}
	if len(b) < 10 {
		return 0, 0, nil
	}
	length = binary.BigEndian.Uint64(b[2:])
	switch {
	case length>>63 != 0:
		return 0, 0, errLengthNegative
	case length <= 0xffff:
		return 0, 0, errLengthNotMinimal
	}
	return length, 10, nil
}

// checkStart checks a frame's first two bytes.
func (c *codec) checkStart(b0, b1 byte) error {
	op := ws.OpCode(b0 & opBits)
	fragmented := c.parts != nil
	switch {
	// RFC 6455 section 5.2: RSV1 to RSV3 "MUST be 0 unless an extension is
	// negotiated that defines meanings for non-zero values".
	case b0&rsvBits != 0:
		return errReservedBits
	// RFC 6455 section 5.2: "If an unknown opcode is received, the receiving
	// endpoint MUST _Fail the WebSocket Connection_".
	case op.IsReserved():
		return errReservedOpcode
	// RFC 6455 section 5.1: "The server MUST close the connection upon
	// receiving a frame that is not masked".
	case !c.client && b1&maskBit == 0:
		return errNotMasked
	// RFC 6455 section 5.1: "A client MUST close a connection if it detects a
	// masked frame".
	case c.client && b1&maskBit != 0:
		return errMasked
	// RFC 6455 section 5.5: control frames "MUST have a payload length of 125
	// bytes or less and MUST NOT be fragmented".
	case op.IsControl() && b0&finBit == 0:
		return errControlFragment
	case op.IsControl() && b1&^maskBit > ws.MaxControlFramePayloadSize:
		return errControlTooLong
	// RFC 6455 section 5.4: a fragmented message is one frame with "an opcode
	// other than 0", and then "zero or more frames with the FIN bit clear and
	// the opcode set to 0".
	case op == ws.OpContinuation && !fragmented:
		return errNothingToGoOn
	// RFC 6455 section 5.4: "The fragments of one message MUST NOT be
	// interleaved between the fragments of another message".
	case op.IsData() && op != ws.OpContinuation && fragmented:
		return errMessageUnderWay
	case op == ws.OpText && !c.plain:
		return errTextOnPackets
	}
	return nil
}

// held returns how many bytes of the unfinished message came in earlier frames.
func (c *codec) held() int {
	if c.parts == nil {
		return 0
	}
	return len(c.parts.buf)
}

// tooLarge returns the violation for a declared frame length that would make its
// message exceed the limit. All sizes are in bytes.
func tooLarge(declared uint64, held int, limit uint32) error {
	return &violation{
		code:  ws.StatusMessageTooBig,
		text:  fmt.Sprintf("frame of %d bytes after %d, limit %d", declared, held, limit),
		cause: engine.ErrTooLarge,
	}
}
