package framing

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"
)

// Role is the side of the connection for which a framing decodes, if frames look
// the same in both directions.
type Role bool

const (
	Server Role = false // decodes Requests
	Client Role = true  // decodes Responses
)

// muxLineIDSize is the size in bytes of the ID at the start of each line.
const muxLineIDSize = 4

// MuxLine is lines of UTF-8 with an ID, so that responses may arrive in any order:
// four bytes of ID, big-endian, then the text, then a line feed (docs/WIRE.md
// section 2). The ID may contain line feeds. A carriage return is data. The zero
// value is for a server, and ready to use.
type MuxLine struct {
	// Role is Server (the default) to decode Requests and encode Responses, or
	// Client to decode Responses and encode Requests.
	Role Role
}

var _ Framer = MuxLine{}

// Decode implements Framer. max bounds the text; neither the ID nor the line feed
// counts. Text that isn't UTF-8 is ErrMalformed.
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

// Append implements Framer. It refuses a payload that has a line feed in it or
// isn't UTF-8. Like all plain framings it also refuses Ext, Compression, and the
// flags that change a payload's meaning (the format has no cancelled or failed
// requests). It ignores m.Type, because Role determines the type of a line, and
// does not send BizType.
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
