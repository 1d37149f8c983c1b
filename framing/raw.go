package framing

import "fmt"

// Raw has no boundaries: the bytes that have arrived are one OneWay message. The
// network may split and join messages; only the bytes and their order arrive
// unchanged. The zero value is ready to use.
type Raw struct{}

var _ Framer = Raw{}

// Decode implements Framer. A message is all of b, or its first max bytes if there
// are more. Decode ignores seen. Only max 0 is ErrTooLarge, because then no byte
// can ever be delivered.
func (Raw) Decode(b []byte, _, max int, m *Message) (n int, err error) {
	n = min(len(b), max)
	if n <= 0 {
		if len(b) > 0 {
			return 0, fmt.Errorf("%w: raw bytes, limit %d", ErrTooLarge, max)
		}
		return 0, nil
	}
	fillPlain(m, b[:n:n], OneWay, 0)
	return n, nil
}

// Append implements Framer. For an empty payload it appends nothing, so the peer
// gets no message. Like all plain framings it refuses Ext, Compression, and the
// flags that change a payload's meaning. It does not send ID, Type and BizType.
func (Raw) Append(dst []byte, m *Message) ([]byte, error) {
	if err := checkPlain(m); err != nil {
		return dst, err
	}
	return append(dst, m.Payload...), nil
}

// AppendHeader appends nothing: raw bytes have no header. It fails as Append does.
func (Raw) AppendHeader(dst []byte, m *Message) ([]byte, error) { return dst, checkPlain(m) }
