package engine

import (
	"github.com/millrace/millrace/framing"
)

// A Delivery passes the messages of one read to a session: any number of messages
// between Begin and End. The zero value is ready. One goroutine at a time may use a
// Delivery, any number of times; several goroutines with a Delivery each may deliver to
// one session at once. Callbacks must not call its methods.
//
// In Inline dispatch the calling goroutine handles the messages itself, one goroutine
// of a session at a time. In Workers dispatch the messages of a Delivery share ring
// records, and End wakes the worker. So do not block between Begin and End.
type Delivery struct {
	// Replies, if it is set before Begin, collects the replies to the messages.
	Replies *Replies

	session *Session
	records recordWriter
	hint    int // bytes of messages that are expected
	count   int // messages
	bytes   int // of these messages, with framing
}

// Begin starts a delivery of about hint bytes of messages; 0 if the size is unknown. In
// Inline dispatch it blocks until OnOpen has returned, and while another goroutine
// delivers to the session.
func (d *Delivery) Begin(s *Session, hint int) {
	c := s.conn.(*linkConn)
	d.session, d.hint = s, hint
	if l := c.lock; l != nil {
		<-l.ready
		l.lock()
		c.replies = d.Replies
		if d.Replies != nil {
			d.Replies.session, d.Replies.codec, d.Replies.body = s, framing.Packet{}, s.core.engine.lim.MaxMessageSize
		}
		s.corked.Store(true)
		return
	}
	d.records.core, d.records.wait = s.core, waitOpen
}

// Message delivers m. The engine borrows m and its bytes until Message returns. In
// Inline dispatch it runs OnMessage. In Workers dispatch it copies m, and blocks while
// the core's ring is full, so the caller stops reading from the peer. It fails with the
// session's close reason if no message can be handled any more.
func (d *Delivery) Message(m *framing.Message) error {
	s := d.session
	c := s.conn.(*linkConn)
	if c.lock != nil {
		if s.closing.Load() == closingAll {
			return s.closeReason()
		}
		if c.message.Load() != m {
			c.message.Store(m)
		}
		c.handle(m)
	} else if err := d.record(m); err != nil {
		return err
	}
	d.count++
	d.bytes += framing.PacketHeaderSize + len(m.Ext) + len(m.Payload)
	return nil
}

// record puts m into the ring. A large message is copied only once the ring has space
// for it.
func (d *Delivery) record(m *framing.Message) error {
	if messageSize(m) <= d.session.core.share-recordIDSize {
		return d.records.message(d.session, m, d.hint)
	}
	return d.records.large(d.session, largeSize(m), func() *largeMessage { return copyLarge(m) })
}

// handle runs OnMessage on a Transport's goroutine, which holds the callback lock.
func (c *linkConn) handle(m *framing.Message) {
	defer c.session.recoverPanic()
	c.session.core.consumer.handle(c.session, m, false)
}

// End ends the delivery: it flushes the bytes that the callbacks sent, or wakes the
// worker. It does not block. A session above Config.MessageRate or ByteRate pauses its
// link until the rates allow more.
func (d *Delivery) End() {
	s := d.session
	c := s.conn.(*linkConn)
	if l := c.lock; l != nil {
		c.message.Store(nil)
		c.replies = nil
		l.unlock()
		if r := d.Replies; r != nil {
			s.transport.messagesOut.Add(uint64(r.messages))
			r.messages = 0 // else the next delivery would count them again
		}
		s.corked.Store(false)
		c.flush()
	} else {
		d.records.publish()
	}
	if d.count > 0 {
		s.transport.messagesIn.Add(uint64(d.count))
		if s.throttle != nil {
			c.throttle(d.count, d.bytes)
		}
	}
	d.session, d.count, d.bytes = nil, 0, 0
}

// closeReason returns Err of a session that is known to end. It is never nil.
func (s *Session) closeReason() error {
	if err := s.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// Deliver passes m to the handler: a Delivery of one message. It blocks as Begin and
// Message do, and fails as Message does.
func (s *Session) Deliver(m *framing.Message) error {
	var d Delivery
	d.Begin(s, 0)
	err := d.Message(m)
	d.End()
	return err
}

// TryDeliver is Deliver for unreliable datagrams: it returns ErrWouldBlock instead of
// waiting for ring space, and counts that in Stats.DroppedDatagrams. In Inline dispatch it is
// Deliver.
func (s *Session) TryDeliver(m *framing.Message) error {
	c := s.conn.(*linkConn)
	if c.lock != nil {
		return s.Deliver(m)
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
	if s.throttle != nil {
		c.throttle(1, framing.PacketHeaderSize+len(m.Ext)+len(m.Payload))
	}
	return nil
}
