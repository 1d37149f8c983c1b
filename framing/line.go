package framing

import (
	"bytes"
	"fmt"
)

// Line is text in lines, each a OneWay message. A line feed (0x0A) ends a line. It
// is not part of the payload, and neither is one carriage return (0x0D) right
// before it. Any other carriage return is data, and so is every other byte: Line
// does not require UTF-8.
//
// Append ends a line with a line feed alone. Only if the payload itself ends in a
// carriage return, Append adds another one, because the peer's Line strips one. For
// a protocol that always requires both bytes, use Delimiter{Bytes: "\r\n"}.
//
// The zero value is ready to use.
type Line struct {
	// KeepCR leaves the carriage return before the line feed in the payload, and
	// makes Append write only the payload and a line feed. Then an echo is exact to
	// the byte. Default false.
	KeepCR bool
}

var _ Framer = Line{}

// Decode implements Framer. max bounds the payload; the line ending does not count.
func (l Line) Decode(b []byte, seen, max int, m *Message) (n int, err error) {
	w := window(b, max, len("\r\n"))
	from := min(seen, len(w))
	at := bytes.IndexByte(w[from:], '\n')
	if at < 0 {
		if len(l.text(w)) > max {
			return 0, endless("line", max)
		}
		return 0, nil
	}
	end := from + at
	text := l.text(w[:end:end])
	if len(text) > max {
		return 0, fmt.Errorf("%w: line of %d bytes, limit %d", ErrTooLarge, len(text), max)
	}
	fillPlain(m, text, OneWay, 0)
	return end + 1, nil
}

// text returns line, which has no line feed, without the carriage return that
// belongs to the line's ending (or will, if the line feed comes next).
func (l Line) text(line []byte) []byte {
	if last := len(line) - 1; !l.KeepCR && last >= 0 && line[last] == '\r' {
		return line[:last:last]
	}
	return line
}

// Append implements Framer. It refuses a payload with a line feed in it. Like all
// plain framings it also refuses Ext, Compression, and the flags that change a
// payload's meaning. It does not send ID, Type and BizType.
func (l Line) Append(dst []byte, m *Message) ([]byte, error) {
	if err := checkPlain(m); err != nil {
		return dst, err
	}
	p := m.Payload
	if at := bytes.IndexByte(p, '\n'); at >= 0 {
		return dst, fmt.Errorf("%w: a line feed at offset %d of a line", ErrUnencodable, at)
	}
	dst = append(reserve(dst, len(p)+len("\r\n")), p...)
	if !l.KeepCR && len(p) > 0 && p[len(p)-1] == '\r' {
		dst = append(dst, '\r')
	}
	return append(dst, '\n'), nil
}
