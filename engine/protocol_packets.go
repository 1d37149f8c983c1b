package engine

import (
	"context"
	"errors"
	"net"

	"github.com/millrace/millrace/framing"
)

// packetVersion is the first byte of every packet (docs/WIRE.md section 1).
const packetVersion = 1

// Packets is the default protocol of stream sockets: framing.Packet
// (docs/WIRE.md section 1), under the transport name "tcp".
func Packets() StreamProtocol { return packets{} }

// packets is both protocol and codec: it has no state.
type packets struct{}

func (packets) Name() string { return "tcp" }

func (packets) Match(first []byte) Match {
	if first[0] == packetVersion {
		return MatchYes
	}
	return MatchNo
}

func (p packets) Accept(*Control) Codec { return p }

func (p packets) Connect(context.Context, net.Conn, string, Limits) (Codec, []byte, error) {
	return p, nil, nil
}

func (packets) Decode(c *Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
	n, err := framing.Packet{}.Decode(b, seen, c.Limits().MaxMessageSize, m)
	return n, n > 0, err
}

func (packets) Need(b []byte) int { return framing.Packet{}.Need(b) }

func (packets) Append(dst []byte, m *framing.Message) ([]byte, error) {
	return framing.Packet{}.Append(dst, m)
}

func (packets) StatelessAppend() bool { return true }

func (packets) Form() Form { return FormPacket }

func (packets) AppendHeader(dst []byte, m *Message) ([]byte, error) {
	return framing.Packet{}.AppendHeader(dst, m)
}

func (packets) Goodbye(dst []byte, _ error) []byte { return dst }

// Framed returns a stream protocol that carries messages by framer and nothing else,
// under the transport name "tcp" (over TLS and on Unix sockets as Packets). It matches
// any first bytes, so it must be the last stream protocol of a listener.
func Framed(framer framing.Framer) StreamProtocol { return &framed{framer, NewForm()} }

// framed is both protocol and codec: a Framer has no state.
type framed struct {
	framer framing.Framer
	form   Form
}

func (*framed) Name() string { return "tcp" }

// Validate reports an invalid framer, if the framer can check itself. Listen calls it.
func (f *framed) Validate() error {
	if v, ok := f.framer.(interface{ Validate() error }); ok {
		return v.Validate()
	}
	return nil
}

func (*framed) Match([]byte) Match { return MatchYes }

func (f *framed) Accept(*Control) Codec { return f }

func (f *framed) Connect(context.Context, net.Conn, string, Limits) (Codec, []byte, error) {
	return f, nil, nil
}

func (f *framed) Decode(c *Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
	n, err := f.framer.Decode(b, seen, c.Limits().MaxMessageSize, m)
	return n, n > 0, err
}

// Need returns 0 if the framer does not know the size.
func (f *framed) Need(b []byte) int {
	if n, ok := f.framer.(interface{ Need(b []byte) int }); ok {
		return n.Need(b)
	}
	return 0
}

func (f *framed) Append(dst []byte, m *framing.Message) ([]byte, error) {
	return f.framer.Append(dst, m)
}

func (*framed) StatelessAppend() bool { return true }

func (f *framed) Form() Form { return f.form }

// AppendHeader fails with errors.ErrUnsupported if the framer has no headers.
func (f *framed) AppendHeader(dst []byte, m *Message) ([]byte, error) {
	if h, ok := f.framer.(headerAppender); ok {
		return h.AppendHeader(dst, m)
	}
	return dst, errors.ErrUnsupported
}

func (*framed) Goodbye(dst []byte, _ error) []byte { return dst }
