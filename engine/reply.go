package engine

import (
	"sync/atomic"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

const (
	// replySize is the size in bytes of a consumer's reply buffer: enough for one
	// write.
	replySize = flushBytes
	// replyWorth is how many bytes of replies justify a write of their own before the
	// batch ends. Fewer are copied into a block of their size.
	replyWorth = replySize / 4
)

// A replyBuffer collects the replies to the messages of one session that
// are being handled. Only the goroutine that runs the callbacks appends to it, so a
// reply takes no lock. Its bytes are written before everything that was queued for the
// session since it was opened. So it is opened only while nothing is queued, nothing is
// written while it is open, and any other sender marks it as overtaken: later replies go
// through the outbox, after that sender's message.
//
// A callback's replies are recognised by the address of the message that they answer:
// only this callback may use that Message.
//
// A consumer has one for the sessions of its sockets, and a Delivery one. The zero value
// is closed.
type replyBuffer struct {
	session   *Session // the session it is open for; nil when closed
	codec     Appender
	b         []byte
	limit     int         // the most bytes in b
	packets   int         // limit in a consumer's buffer if the codec is packets, else 0
	messages  int         // in b
	body      int         // the largest message that may be sent, in bytes
	slack     int         // bytes that the encoding may add to a message
	stream    uint64      // of the messages whose replies belong here
	overtaken atomic.Bool // for a consumer's: written under the session's out.mu

	consumer *consumer // its owner; nil in a Transport's
	block    *block    // b's memory in a consumer's; nil until it is first opened
}

// Reply answers m with payload, which is copied: a Request by the Response of the same
// ID, any other type by a OneWay of the same ID. The reply goes on m's stream, as text if
// m was text, with m's biz type, without its extension header, flags and compression. In
// OnMessage pass the callback's own m; later, a clone. No other goroutine may use m
// during the call, which changes m's fields and restores them (this saves an
// allocation).
//
// It never blocks. Errors are those of Send. Nil means that the reply was queued; as with
// Send, queued bytes are dropped if the session is aborted, or the connection is lost,
// before they are written.
func (s *Session) Reply(m *framing.Message, payload []byte) error {
	c := &s.core.consumer
	r := &c.replies
	if m != &c.m || r.session != s {
		if r = s.conn.replyBuffer(m); r == nil {
			return s.reply(m, payload, nil)
		}
	}
	at := len(r.b)
	if end := at + packet.HeaderSize + len(payload); end <= r.packets && !r.overtaken.Load() {
		r.b = r.b[:end]
		packet.PutReply(r.b[at:], m.Type == framing.Request, m.BizType, m.ID, payload)
		r.messages++
		return nil
	}
	return s.reply(m, payload, r)
}

// reply is Reply through r if r is not nil and accepts the message, else through the
// outbox. It turns m itself into the reply and back, to avoid an allocation.
func (s *Session) reply(m *framing.Message, payload []byte, r *replyBuffer) error {
	typ, flags, comp, ext, body := m.Type, m.Flags, m.Compression, m.Ext, m.Payload
	m.Type = framing.OneWay
	if typ == framing.Request {
		m.Type = framing.Response
	}
	m.Flags, m.Compression, m.Ext, m.Payload = 0, 0, nil, payload
	var err error
	if r == nil || !r.append(m) {
		err = s.conn.send(m)
	}
	m.Type, m.Flags, m.Compression, m.Ext, m.Payload = typ, flags, comp, ext, body
	return err
}

// append encodes m at the end of r. It returns false, with r closed to later replies, if
// m must go through the outbox (limits, policies, errors).
func (r *replyBuffer) append(m *framing.Message) bool {
	s, body := r.session, len(m.Ext)+len(m.Payload)
	if !r.overtaken.Load() && body <= r.body && m.Stream == r.stream && !m.Datagram && r.counted(m) {
		if len(r.b)+body+r.slack > r.limit && r.consumer != nil && len(r.b) > 0 {
			r.close(true) // it goes on empty, if the socket takes that much
			r.consumer.openReplies(s)
		}
		if r.session == s && len(r.b)+body+r.slack <= r.limit {
			if b, err := r.encode(m); err == nil {
				if len(b) > len(r.b) {
					r.b = b
					r.messages++
				}
				return true
			}
		}
	}
	if r.consumer != nil {
		r.close(false)
	} else {
		r.overtake() // later replies may not pass this one
	}
	return false
}

// counted reports whether a Transport can count m from its packet alone. It counts
// fragments and cancellations itself.
func (r *replyBuffer) counted(m *framing.Message) bool {
	return r.consumer != nil || m.Flags == 0 && len(m.Ext) == 0
}

// encode calls the codec's Append. A panic ends the session.
func (r *replyBuffer) encode(m *framing.Message) (b []byte, err error) {
	defer r.recoverAppend(&err)
	return r.codec.Append(r.b, m)
}

func (r *replyBuffer) recoverAppend(err *error) {
	if v := recover(); v != nil {
		p := newPanicError(v)
		r.session.notePanic(p)
		r.session.conn.close(p, false)
		*err = p
	}
}

// replyBuffer implements connection. If m is the message of the running callback and
// more messages follow, it opens the consumer's buffer.
func (c *socketConn) replyBuffer(m *framing.Message) *replyBuffer {
	k := &c.core().consumer
	if m != &k.m {
		return nil // a clone, a large message, or on another goroutine
	}
	if k.replies.session == c.session {
		return &k.replies
	}
	if !k.collect || c.kind == codecStateful {
		return nil
	}
	return k.openReplies(c.session)
}

// openReplies opens the consumer's buffer for s and returns it, or nil if the session
// has queued bytes or cannot write now.
func (c *consumer) openReplies(s *Session) *replyBuffer {
	r, conn := &c.replies, s.conn.(*socketConn)
	r.close(false)
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.pending > 0 || s.phase != phaseOpen || conn.outputState() != outputIdle {
		c.collect = false // not again before the next messages
		return nil
	}
	if r.block == nil {
		r.block = newBlock(replySize)
	}
	r.b = r.block.b
	r.limit = min(replySize, s.out.limits.OutboxSoftMark, s.out.limits.MaxMessageSize+packet.HeaderSize)
	r.packets = 0
	if conn.kind == codecPackets {
		r.packets = r.limit // so no payload above MaxMessageSize fits
	}
	r.consumer, r.session, r.codec = c, s, conn.codec
	r.messages, r.body, r.slack = 0, s.out.limits.MaxMessageSize, encodeSlack
	conn.setOutput(outputReplies)
	c.cork(s) // so that its replies leave with the batch, also if the message was another session's
	return r
}

// close closes a consumer's buffer and moves its replies to the front of the outbox. It
// writes them if they are many, or if flush is set.
func (r *replyBuffer) close(flush bool) {
	s := r.session
	if s == nil {
		return
	}
	conn := s.conn.(*socketConn)
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	r.session = nil
	r.overtaken.Store(false)
	conn.setOutput(outputIdle)
	if len(r.b) > 0 && s.phase != phaseEnded {
		s.out.pushFront(r.take(), r.messages, len(r.b))
		conn.congestLocked()
	}
	if (flush || s.out.pending >= replyWorth) && s.out.pending > 0 {
		conn.flushLocked()
	}
}

// take returns r's bytes in a block: its own if they are many, else a copy.
func (r *replyBuffer) take() *block {
	b := r.block
	if len(r.b) < replyWorth {
		b = blockOf(r.b)
	} else {
		r.block = nil
		b.b = r.b
	}
	b.messages = r.messages
	return b
}

// overtake closes r to later replies; they go through the Link. Any goroutine may call it.
func (r *replyBuffer) overtake() {
	if !r.overtaken.Load() {
		r.overtaken.Store(true)
	}
}
