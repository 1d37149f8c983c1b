package engine

import (
	"encoding/binary"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/ring"
)

// A Delivery hands a session what one read brought: any number of messages
// between Begin and End. The zero value is ready, and may be used again and
// again, by one goroutine at a time; several goroutines with a Delivery each may
// deliver to one session at once. None of its methods may be called from a callback.
//
// In Inline dispatch the messages are handled by the calling goroutine itself,
// one goroutine of a session at a time. In Workers dispatch they travel through
// the ring together, and the worker is woken once. So between Begin and End wait for nothing:
// whoever has to calls End first.
type Delivery struct {
	// Replies, if it is set before Begin, collects the replies to the messages.
	Replies *Replies

	session *Session
	claim   ring.Claim
	used    int // bytes of claim; 0 means that no record is open
	hint    int // bytes of messages that are still expected
	count   int // messages
	bytes   int // of these, framing included
}

// Begin starts a delivery of about hint bytes of messages; 0 if nobody knows. It
// blocks until OnOpen has returned, and while another goroutine delivers, if
// dispatch is Inline.
func (d *Delivery) Begin(s *Session, hint int) {
	d.session, d.hint = s, hint
	if t := s.link.turn; t != nil {
		<-t.ready
		t.mu.Lock()
		t.replies = d.Replies
		s.corked.Store(true)
	}
}

// Message delivers m. The engine borrows it, and in Inline dispatch its bytes,
// until Message returns; in Workers dispatch it copies it, and blocks while the
// core's ring is full: that is how the peer feels backpressure. It fails with
// the session's close reason when no message makes sense any more.
func (d *Delivery) Message(m *framing.Message) error {
	s := d.session
	if t := s.link.turn; t != nil {
		if s.muted.Load() {
			return s.closeReason()
		}
		if t.message.Load() != m {
			t.message.Store(m)
		}
		d.account(m)
		s.handleDirectly(m)
		return nil
	}
	size := messageSize(m)
	if size > s.core.share-recordIDSize {
		d.publish()
		return d.large(m)
	}
	if d.used > 0 && size > len(d.claim.Buf)-d.used {
		d.publish()
	}
	if d.used == 0 {
		if err := d.open(size); err != nil {
			return err
		}
	}
	d.used += putMessage(d.claim.Buf[d.used:], m)
	d.account(m)
	return nil
}

// End ends the delivery: what the callbacks sent is flushed, and the worker, if
// there is one, is woken. What the session sent above Config.MessageRate and
// ByteRate pauses the link for as long as they ask for.
func (d *Delivery) End() {
	s := d.session
	if t := s.link.turn; t != nil {
		t.message.Store(nil)
		t.replies = nil
		t.mu.Unlock()
		if r := d.Replies; r != nil {
			s.transport.messagesOut.Add(uint64(r.responses + r.oneWays + r.requests))
		}
		s.uncork()
	} else {
		d.publish()
	}
	if d.count > 0 {
		s.transport.messagesIn.Add(uint64(d.count))
		if s.throttle != nil {
			s.throttleLink(d.count, d.bytes)
		}
	}
	d.session, d.count, d.bytes = nil, 0, 0
}

func (d *Delivery) account(m *framing.Message) {
	d.count++
	d.bytes += framing.PacketHeaderSize + len(m.Ext) + len(m.Payload)
}

// open starts a record with room for size bytes, and for what is expected if the
// ring has that much.
func (d *Delivery) open(size int) error {
	c := d.session.core
	need := recordIDSize + size
	claim, ok := c.ring.Claim(max(need, min(need+2*d.hint, c.share)))
	if !ok {
		var err error
		if claim, err = c.claim(need, d.session.alive); err != nil {
			return err
		}
	}
	binary.LittleEndian.PutUint64(claim.Buf, uint64(d.session.id))
	d.claim, d.used = claim, recordIDSize
	return nil
}

// publish makes the open record visible to the worker.
func (d *Delivery) publish() {
	if d.used == 0 {
		return
	}
	c := d.session.core
	c.ring.CommitPart(d.claim, d.used, recordMessages)
	c.wake()
	d.claim, d.used = ring.Claim{}, 0
}

// large delivers m by reference, waiting for room.
func (d *Delivery) large(m *framing.Message) error {
	s, l := d.session, copyLarge(m)
	c := s.core
	if c.putLarge(s, l) {
		d.account(m)
		return nil
	}
	c.spaceMu.Lock()
	defer c.spaceMu.Unlock()
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	for {
		if c.putLarge(s, l) {
			d.account(m)
			return nil
		}
		if err := s.alive(); err != nil {
			l.block.free()
			return err
		}
		c.spaceCond.Wait()
	}
}

// handleDirectly runs OnMessage on a Transport's goroutine, which has the turn.
func (s *Session) handleDirectly(m *framing.Message) {
	c := &s.core.consumer
	defer c.recover(s)
	c.handler.OnMessage(s, m)
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

// TryDeliver is Deliver that returns ErrWouldBlock instead of waiting for the
// ring: for unreliable datagrams. Such a drop is counted.
func (s *Session) TryDeliver(m *framing.Message) error {
	if s.link.turn != nil {
		return s.Deliver(m)
	}
	if err := s.alive(); err != nil {
		return err
	}
	c, need := s.core, recordIDSize+messageSize(m)
	claim, ok := ring.Claim{}, need <= c.ring.MaxRecord()
	if ok {
		claim, ok = c.ring.Claim(need)
	}
	if !ok {
		c.stats.datagramDrops.Add(1)
		return ErrWouldBlock
	}
	binary.LittleEndian.PutUint64(claim.Buf, uint64(s.id))
	putMessage(claim.Buf[recordIDSize:], m)
	c.ring.Commit(claim, recordMessages)
	c.wake()
	s.transport.messagesIn.Add(1)
	if s.throttle != nil {
		s.throttleLink(1, framing.PacketHeaderSize+len(m.Ext)+len(m.Payload))
	}
	return nil
}
