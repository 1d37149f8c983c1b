package engine

import "github.com/millrace/millrace/framing"

// A Port, for protocol authors, is a Transport's interface to one session: it delivers
// what the peer sent. Host.Open returns it. Any goroutine may call its methods, but no
// callback.
type Port linkConn

func (p *Port) conn() *linkConn { return (*linkConn)(p) }

// Session returns the session.
func (p *Port) Session() *Session { return p.session }

// Deliver passes m to the handler: a Delivery of one message. It blocks as Begin and
// Message do, and fails as Message does.
func (p *Port) Deliver(m *framing.Message) error {
	var d Delivery
	d.Begin(p, 0)
	err := d.Message(m)
	d.End()
	return err
}

// TryDeliver is Deliver for unreliable datagrams: it returns ErrWouldBlock instead of
// waiting for ring space, and counts that in Stats.DroppedDatagrams. In Inline dispatch it is
// Deliver.
func (p *Port) TryDeliver(m *framing.Message) error {
	c := p.conn()
	s := c.session
	if c.lock != nil {
		return p.Deliver(m)
	}
	if s.closing.Load() != closingNot {
		return s.closeReason()
	}
	w := recordWriter{core: s.core, wait: waitNever}
	if recordIDSize+messageSize(m) > s.core.ring.MaxRecord() || w.message(s, m, 0) != nil {
		s.core.stats.datagramDrops.Add(1)
		return ErrWouldBlock
	}
	w.publish()
	s.transport.messagesIn.Add(1)
	if s.rates() != nil {
		c.throttle(1, framing.PacketHeaderSize+len(m.Ext)+len(m.Payload))
	}
	return nil
}

// PeerClosed is to be called if the peer will send no more but may still read. After the
// messages delivered so far are handled and every Hold is released, the engine calls
// Link.Close with ErrPeerClosed. It may block until the ring has space: do not call it
// from a callback.
func (p *Port) PeerClosed() { p.conn().endBehindMessages(ErrPeerClosed) }

// Ended is to be called when the connection has ended, with the reason, which must not be
// nil. OnClose follows after the messages delivered before. Each Port needs one call;
// further calls do nothing. It may block until the ring has space: do not call it from a
// callback.
func (p *Port) Ended(reason error) {
	c := p.conn()
	if c.gone.Swap(true) {
		return
	}
	s := c.session
	s.out.mu.Lock()
	s.closing.Store(max(s.closing.Load(), closingSends)) // delivered messages are still handled
	if s.out.refused == nil {
		s.out.refused = reason
	}
	s.phase = phaseEnded
	s.out.mu.Unlock()
	c.stopThrottle()
	if err := c.post(recordClosed); err != nil {
		s.core.leave(s)
	}
}
