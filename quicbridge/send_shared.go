package quicbridge

import (
	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

var _ engine.SharingLink = (*conn)(nil)

// outgoing is a message that is being sent. Its bytes are copied, unless frame or
// release is set.
type outgoing struct {
	m       *framing.Message
	frame   *engine.Frame // of m
	release func()        // of m.Payload
}

// appendTo queues o's message.
func (o *outgoing) appendTo(out *engine.Outbox) error {
	switch {
	case o.frame != nil:
		return out.AppendFrame(engine.FormPacket, framing.Packet{}, o.frame)
	case o.release != nil:
		return out.AppendOwned(framing.Packet{}, o.m, o.release)
	}
	return out.Append(framing.Packet{}, o.m)
}

// SendFrame implements engine.SharingLink.
func (c *conn) SendFrame(f *engine.Frame) error {
	return c.send(outgoing{m: f.Message(), frame: f})
}

// SendOwned implements engine.SharingLink. It copies packets for msgtrans: the writer
// needs each in one piece.
func (c *conn) SendOwned(m *framing.Message, release func()) error {
	if !c.compat {
		return c.send(outgoing{m: m, release: release})
	}
	err := c.Send(m)
	if err == nil {
		go release()
	}
	return err
}
