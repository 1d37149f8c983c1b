package framing

import (
	"fmt"
	"strings"
	"unsafe"
)

// Delimiter ends each message with a fixed string of bytes that no payload may
// contain. Each message is a OneWay. The zero value is ready to use and
// delimits with one zero byte.
type Delimiter struct {
	// Bytes is the delimiter, of any length. Empty (the default) means "\x00".
	Bytes string
}

var _ Framer = Delimiter{}

// delimiter returns the bytes that end a frame.
func (d Delimiter) delimiter() string {
	if d.Bytes == "" {
		return "\x00"
	}
	return d.Bytes
}

// Decode implements Framer. The first occurrence of the delimiter ends the
// frame; it doesn't count towards max.
func (d Delimiter) Decode(b []byte, seen, max int, m *Message) (n int, err error) {
	sep := d.delimiter()
	w := window(b, max, len(sep))
	// The delimiter may have begun in the last seen bytes.
	from := min(seen-(len(sep)-1), len(w))
	if from < 0 {
		from = 0
	}
	at := index(w[from:], sep)
	if at < 0 {
		if len(w)-len(sep) >= max {
			return 0, endless("delimited message", max)
		}
		return 0, nil
	}
	end := from + at
	fillPlain(m, w[:end:end], OneWay, 0)
	return end + len(sep), nil
}

// Append implements Framer. It refuses a payload that would not arrive unchanged:
// one that contains the delimiter, or whose end forms a delimiter with the start of
// the one after it ("x-" before "--" reads as "x" and "-"). Like all plain framings
// it also refuses Ext, Compression, and the flags that change a payload's meaning.
// It does not send ID, Type and BizType.
func (d Delimiter) Append(dst []byte, m *Message) ([]byte, error) {
	if err := checkPlain(m); err != nil {
		return dst, err
	}
	sep := d.delimiter()
	if at := index(m.Payload, sep); at >= 0 {
		return dst, fmt.Errorf("%w: the delimiter at offset %d of a payload", ErrUnencodable, at)
	}
	if endsEarly(m.Payload, sep) {
		return dst, fmt.Errorf("%w: the payload's end and the delimiter form an earlier delimiter", ErrUnencodable)
	}
	dst = reserve(dst, len(m.Payload)+len(sep))
	dst = append(dst, m.Payload...)
	return append(dst, sep...), nil
}

// index returns the offset of the first sep in b, or -1. It converts b to a string
// without a copy, for the duration of the call. To convert sep to bytes instead,
// for bytes.Index, would allocate if sep is longer than 32 bytes.
func index(b []byte, sep string) int {
	return strings.Index(unsafe.String(unsafe.SliceData(b), len(b)), sep)
}

// endsEarly reports whether payload + sep contains a sep that begins in the payload
// and ends in the real delimiter. That needs a k for which the payload ends with
// the first k bytes of sep, and the rest of sep is also a prefix of sep.
func endsEarly(payload []byte, sep string) bool {
	for k := min(len(sep)-1, len(payload)); k > 0; k-- {
		if strings.HasPrefix(sep, sep[k:]) && string(payload[len(payload)-k:]) == sep[:k] {
			return true
		}
	}
	return false
}
