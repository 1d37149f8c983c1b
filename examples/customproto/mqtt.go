package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// The types of MQTT control packets (section 2.2.1). Three of them are also the BizType of
// the messages of a session:
//
//	publish      a OneWay; Ext is the topic
//	subscribe    a Request; its payload is a list of topics, as in section 3.8.3; the
//	             payload of the Response has a return code for each
//	unsubscribe  a Request; its payload is a list of topics, as in section 3.10.3
const (
	connectType = 1
	connack     = 2
	publish     = 3
	subscribe   = 8
	suback      = 9
	unsubscribe = 10
	unsuback    = 11
	pingreq     = 12
	pingresp    = 13
	disconnect  = 14
)

const (
	maxConnect   = 16 << 10     // bytes of a CONNECT packet that this server reads
	maxText      = 1<<16 - 1    // bytes of a string (section 1.5.3)
	maxRemaining = 1<<28 - 1    // bytes of a packet after its fixed header (section 2.2.3)
	packetID     = 2            // bytes before the payload of a SUBSCRIBE packet, or of a topic's length
	lengthBytes  = 4            // of the remaining length, at most
	flagsOfAsk   = byte(0b0010) // of SUBSCRIBE and UNSUBSCRIBE (section 2.2.2)
)

// errDisconnect is the close reason of a client that said DISCONNECT.
var errDisconnect = fmt.Errorf("mqtt: DISCONNECT: %w", engine.ErrPeerClosed)

// mqtt is the server's side of MQTT 3.1.1 with QoS 0, as an engine.StreamProtocol.
type mqtt struct{ form engine.Form }

func newMQTT() *mqtt { return &mqtt{engine.NewForm()} }

func (*mqtt) Name() string { return "mqtt" }

// Match: the first packet must be CONNECT, whose flags are 0 (section 3.1).
func (*mqtt) Match(first []byte) engine.Match {
	if first[0] == connectType<<4 {
		return engine.MatchYes
	}
	return engine.MatchNo
}

func (p *mqtt) Accept(*engine.Control) engine.Codec { return &codec{form: p.form} }

func (*mqtt) Connect(context.Context, net.Conn, string, engine.Limits) (engine.Codec, []byte, error) {
	return nil, nil, fmt.Errorf("mqtt: dialing: %w", errors.ErrUnsupported)
}

// codec is the state of a session.
type codec struct {
	form    engine.Form
	open    atomic.Bool // CONNECT was accepted; Goodbye reads it on another goroutine
	silence time.Duration
	timer   *time.Timer // closes the session after silence; nil without one
}

// NeedsHandshake implements engine.Handshaker.
func (*codec) NeedsHandshake() bool { return true }

func (c *codec) Decode(ctl *engine.Control, b []byte, _ int, m *framing.Message) (n int, ok bool, err error) {
	limit := ctl.Limits().MaxMessageSize + packetID
	if !c.open.Load() {
		limit = maxConnect
	}
	head, size, err := fixedHeader(b, limit)
	if err != nil || head == 0 || len(b)-head < size {
		return 0, false, err
	}
	n = head + size
	body := b[head:n:n]
	if !c.open.Load() {
		if done, err := c.connect(ctl, b[0], body); err != nil || !done {
			return 0, false, err
		}
		return n, false, nil
	}
	if c.timer != nil {
		c.timer.Reset(c.silence)
	}
	ok, err = c.packet(ctl, b[0], body, m)
	if err != nil {
		return 0, false, err
	}
	return n, ok, nil
}

// fixedHeader returns the length of the fixed header at the start of b, 0 if it is not
// complete, and the remaining length (section 2.2.3).
func fixedHeader(b []byte, limit int) (head, size int, err error) {
	for i := 1; i < len(b); i++ {
		size |= int(b[i]&0x7f) << (7 * (i - 1))
		switch {
		case size > limit:
			return 0, 0, fmt.Errorf("%w: mqtt: a packet of %d bytes", framing.ErrTooLarge, size)
		case b[i] < 0x80:
			return i + 1, size, nil
		case i == lengthBytes:
			return 0, 0, malformed("the remaining length has more than %d bytes", lengthBytes)
		}
	}
	return 0, 0, nil
}

// connect handles the first packet, which must be CONNECT (section 3.1). It returns false
// until the Authorizers have decided.
func (c *codec) connect(ctl *engine.Control, first byte, body []byte) (done bool, err error) {
	if first != connectType<<4 {
		return false, malformed("the first packet has the header %#x", first)
	}
	in, err := parseConnect(body)
	if err != nil {
		return false, err
	}
	s := ctl.Session()
	s.SetValue(connectKey{}, in)
	if !ctl.Authorize() {
		return false, nil
	}
	if err := ctl.SendControl([]byte{connack << 4, 2, 0, accepted}); err != nil { // section 3.2
		return false, err
	}
	if in.keepAlive > 0 { // "one and a half times the Keep Alive time period" (section 3.1.2.10)
		c.silence = in.keepAlive * 3 / 2
		c.timer = time.AfterFunc(c.silence, func() { s.CloseWith(engine.ErrIdleTimeout) })
		context.AfterFunc(s.Context(), func() { c.timer.Stop() })
	}
	c.open.Store(true)
	ctl.Establish()
	return true, nil
}

// packet handles a packet after CONNECT. ok reports whether it is a message.
func (c *codec) packet(ctl *engine.Control, first byte, body []byte, m *framing.Message) (ok bool, err error) {
	switch {
	case first>>4 == publish:
		return true, decodePublish(first, body, m)
	case first == subscribe<<4|flagsOfAsk, first == unsubscribe<<4|flagsOfAsk:
		r := reader{b: body}
		id := r.uint16()
		if id == 0 || len(r.b) == 0 { // sections 2.3.1, 3.8.3 and 3.10.3
			return false, malformed("a subscription without a packet identifier or a topic")
		}
		*m = framing.Message{Type: framing.Request, ID: uint32(id), BizType: first >> 4, Payload: r.b}
		return true, nil
	case first == pingreq<<4 && len(body) == 0: // section 3.12
		return false, ctl.SendControl([]byte{pingresp << 4, 0}) // section 3.13
	case first == disconnect<<4 && len(body) == 0: // section 3.14
		return false, errDisconnect
	}
	return false, malformed("a packet with the header %#x and %d bytes", first, len(body))
}

// decodePublish decodes a PUBLISH packet (section 3.3). RETAIN, the lowest flag, is
// ignored: this server keeps no messages.
func decodePublish(first byte, body []byte, m *framing.Message) error {
	if first&0b1110 != 0 { // DUP and QoS (sections 3.3.1.1 and 3.3.1.2)
		return malformed("PUBLISH with the flags %#x, only QoS 0 is served", first&0xf)
	}
	r := reader{b: body}
	topic := r.bytes()
	if !validTopic(topic) {
		return malformed("PUBLISH to the topic %.40q", topic)
	}
	*m = framing.Message{BizType: publish, Ext: topic, Payload: r.b}
	return nil
}

// StatelessAppend implements engine.StatelessCodec.
func (*codec) StatelessAppend() bool { return true }

// Form implements engine.FormCodec: a message to many subscribers is encoded once.
func (c *codec) Form() engine.Form { return c.form }

// Append implements engine.Codec.
func (c *codec) Append(dst []byte, m *framing.Message) ([]byte, error) {
	dst, err := c.AppendHeader(dst, m)
	if err != nil {
		return dst, err
	}
	return append(dst, m.Payload...), nil
}

// AppendHeader implements engine.HeaderCodec.
func (*codec) AppendHeader(dst []byte, m *framing.Message) ([]byte, error) {
	size := packetID + len(m.Payload)
	switch {
	case size+len(m.Ext) > maxRemaining:
	case m.Type == framing.Response && (m.BizType == subscribe || m.BizType == unsubscribe): // sections 3.9 and 3.11
		dst = appendFixed(dst, m.BizType+1, size)
		return binary.BigEndian.AppendUint16(dst, uint16(m.ID)), nil
	case m.Type == framing.OneWay && m.BizType == publish && validTopic(m.Ext) && m.Compression == framing.CompressionNone:
		dst = appendFixed(dst, publish, size+len(m.Ext)) // section 3.3
		dst = binary.BigEndian.AppendUint16(dst, uint16(len(m.Ext)))
		return append(dst, m.Ext...), nil
	}
	return dst, fmt.Errorf("%w: no MQTT packet for type %d, biz type %d, topic %.40q", framing.ErrUnencodable, m.Type, m.BizType, m.Ext)
}

// appendFixed appends a fixed header (section 2.2).
func appendFixed(dst []byte, kind byte, remaining int) []byte {
	dst = append(dst, kind<<4)
	return binary.AppendUvarint(dst, uint64(remaining)) // the same format as section 2.2.3
}

// Goodbye implements engine.Codec: a refused CONNECT is answered by a return code. There
// is no packet by which a server closes an open session (section 3.14).
func (c *codec) Goodbye(dst []byte, reason error) []byte {
	var code refusal
	switch {
	case c.open.Load():
		return dst
	case errors.As(reason, &code):
	case errors.Is(reason, engine.ErrUnauthorized):
		code = notAuthorized
	case errors.Is(reason, framing.ErrMalformed), errors.Is(reason, framing.ErrTooLarge):
		return dst // section 4.8
	default:
		code = serverUnavailable
	}
	return append(dst, connack<<4, 2, 0, byte(code))
}
