package engine

import (
	"math"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

// A Delivery, for protocol authors, passes the messages of one read to a session: any
// number of messages between Begin and End. The zero value is ready. One goroutine at a
// time may use a Delivery, any number of times; several goroutines with a Delivery each
// may deliver to one session at once. Callbacks must not call its methods.
//
// In Inline dispatch the calling goroutine handles the messages itself, one goroutine
// of a session at a time. In Workers dispatch the messages of a Delivery share ring
// records, and End wakes the worker. So do not block between Begin and End.
type Delivery struct {
	session *Session
	replies replyBuffer
	records recordWriter
	hint    int // bytes of messages that are expected
	count   int // messages
	bytes   int // of these messages, with framing
}

// Begin starts a delivery of about hint bytes of messages; 0 if the size is unknown. In
// Inline dispatch it blocks until OnOpen has returned, and while another goroutine
// delivers to the session.
func (d *Delivery) Begin(p *Port, hint int) {
	c := p.conn()
	s := c.session
	d.session, d.hint = s, hint
	if l := c.lock; l != nil {
		<-l.ready
		l.lock()
		s.corked.Store(true)
		return
	}
	d.records.core, d.records.wait = s.core, waitOpen
}

// Collect makes the delivery collect the replies to its messages of that stream in b, as
// packets, in Inline dispatch: they then take no lock and do not pass through the Link.
// The capacity of b bounds them; replies that do not fit, or that another message for
// the session overtakes, go through the Link. The Transport owns b; the engine uses it
// until Collected. To be called after Begin.
func (d *Delivery) Collect(b []byte, stream uint64) {
	r, s := &d.replies, d.session
	r.b, r.stream, r.messages = b[:0], stream, 0
	r.limit, r.slack = cap(b), packet.HeaderSize
	r.session, r.codec, r.body = s, framing.Packet{}, s.Limits().MaxMessageSize
	r.overtaken.Store(false)
	s.conn.(*linkConn).replies = r
}

// StopCollecting makes later replies go through the Link. Any goroutine may call it, for
// a Link that was asked to send another message on the stream. It does not block.
func (d *Delivery) StopCollecting() { d.replies.overtake() }

// Collected ends Collect. It returns the packets, in the memory passed to Collect, and how
// many of them are Responses and OneWays. To be called before End.
func (d *Delivery) Collected() (packets []byte, responses, oneWays int) {
	r := &d.replies
	r.overtake()
	packets, r.b, r.limit = r.b, nil, 0
	for rest := packets; len(rest) > 0; {
		head := packet.ReadHeader(rest)
		n, _ := head.Size(math.MaxInt)
		switch framing.Type(head.Head >> 40) {
		case framing.Response:
			responses++
		case framing.OneWay:
			oneWays++
		case framing.Request:
		}
		rest = rest[n:]
	}
	return packets, responses, oneWays
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
		s.transport.messagesOut.Add(uint64(d.replies.messages))
		d.replies.messages = 0 // else the next delivery would count them again
		s.corked.Store(false)
		c.flush()
	} else {
		d.records.publish()
	}
	if d.count > 0 {
		s.transport.messagesIn.Add(uint64(d.count))
		if s.rates() != nil {
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
