package framing

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Role tells a framing which end of the conversation it decodes for, where the
// bytes are the same both ways.
type Role bool

const (
	Server Role = false // what arrives is a Request
	Client Role = true  // what arrives is a Response
)

// muxLineIDSize is the size in bytes of the id that each line starts with.
const muxLineIDSize = 4

// MuxLine is lines of UTF-8 with an id, so that answers may come in any order:
// four bytes of id, big-endian, then the text, then a line feed (docs/WIRE.md
// section 2). Four bytes of id may contain line feeds. A carriage return is
// data. The zero value is a server's and ready to use.
type MuxLine struct {
	// Role is Server (the default) to decode Requests and encode Responses, or
	// Client to decode Responses and encode Requests.
	Role Role
}

var _ Framer = MuxLine{}

// Decode implements Framer. max bounds the text; neither the id nor the line
// feed counts. Text that isn't UTF-8 is ErrMalformed.
func (l MuxLine) Decode(b []byte, seen, max int, m *Message) (n int, err error) {
	w := window(b, max, muxLineIDSize+len("\n"))
	from := seen
	if from < muxLineIDSize {
		from = muxLineIDSize
	}
	from = min(from, len(w))
	at := bytes.IndexByte(w[from:], '\n')
	if at < 0 {
		if len(w)-muxLineIDSize > max {
			return 0, endless("multiplexed line", max)
		}
		return 0, nil
	}
	end := from + at
	text := w[muxLineIDSize:end:end]
	if !utf8.Valid(text) {
		return 0, fmt.Errorf("%w: multiplexed line isn't UTF-8", ErrMalformed)
	}
	kind := Request
	if l.Role == Client {
		kind = Response
	}
	fillPlain(m, text, kind, binary.BigEndian.Uint32(w))
	return end + 1, nil
}

// Append implements Framer. The direction says what a line is, so m.Type is
// ignored, and BizType doesn't travel. A payload that has a line feed in it or
// isn't UTF-8 is refused, and so is what no plain framing can carry: Ext,
// Compression, and the flags that change a payload's meaning (a cancelled or a
// failed request has no form here).
func (MuxLine) Append(dst []byte, m *Message) ([]byte, error) {
	if err := checkPlain(m); err != nil {
		return dst, err
	}
	if at := bytes.IndexByte(m.Payload, '\n'); at >= 0 {
		return dst, fmt.Errorf("%w: a line feed at offset %d of a multiplexed line", ErrUnencodable, at)
	}
	if !utf8.Valid(m.Payload) {
		return dst, fmt.Errorf("%w: multiplexed line isn't UTF-8", ErrUnencodable)
	}
	dst = reserve(dst, muxLineIDSize+len(m.Payload)+len("\n"))
	dst = binary.BigEndian.AppendUint32(dst, m.ID)
	dst = append(dst, m.Payload...)
	return append(dst, '\n'), nil
}
