package engine

import (
	"github.com/millrace/millrace/framing"
)

// A Delivery hands a session the messages of one read: any number of messages
// between Begin and End. The zero value is ready, and may be used again and
// again, by one goroutine at a time; several goroutines with a Delivery each may
// deliver to one session at once. None of its methods may be called from a callback.
//
// In Inline dispatch the messages are handled by the calling goroutine itself,
// one goroutine of a session at a time. In Workers dispatch they travel through
// the ring together, and the worker is woken once. So wait for nothing between
// Begin and End.
type Delivery struct {
	// Replies, if it is set before Begin, collects the replies to the messages.
	Replies *Replies

	session *Session
	records recordWriter
	hint    int // bytes of messages that are still expected
	count   int // messages
	bytes   int // of these, framing included
}

// Begin starts a delivery of about hint bytes of messages; 0 if that is unknown.
// It blocks until OnOpen has returned, and while another goroutine delivers, if
// dispatch is Inline.
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

// Message delivers m. The engine borrows it, and in Inline dispatch its bytes,
// until Message returns; in Workers dispatch it copies it, and blocks while the
// core's ring is full: that is how the peer meets backpressure. It fails with
// the session's close reason when no message can be handled any more.
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

// record puts m into the ring. A large message is copied when there is space for
// it, not before.
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

// End ends the delivery: the bytes that the callbacks sent are flushed, and the
// worker, if there is one, is woken. A session that has sent above
// Config.MessageRate or ByteRate pauses its link for as long as they ask for.
func (d *Delivery) End() {
	s := d.session
	c := s.conn.(*linkConn)
	if l := c.lock; l != nil {
		c.message.Store(nil)
		c.replies = nil
		l.unlock()
		if r := d.Replies; r != nil {
			s.transport.messagesOut.Add(uint64(r.messages))
			r.messages = 0 // or the next delivery would count them again
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

// closeReason is Err for a session that is known to end: never nil.
func (s *Session) closeReason() error {
	if err := s.Err(); err != nil {
		return err
	}
	return ErrClosed
}

// Deliver hands m to the handler: a Delivery of one message.
func (s *Session) Deliver(m *framing.Message) error {
	var d Delivery
	d.Begin(s, 0)
	err := d.Message(m)
	d.End()
	return err
}

// TryDeliver is Deliver that returns ErrWouldBlock instead of waiting for ring
// space: for unreliable datagrams. Such a drop is counted.
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
