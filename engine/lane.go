package engine

import (
	"sync/atomic"

	"github.com/millrace/millrace/framing"
)

const (
	// laneSize is the size in bytes of a lane's block: as much as one write takes.
	laneSize = flushBytes
	// laneWorth is how many bytes of a lane are worth a write of their own before
	// the batch ends. Fewer are copied into a block of their size.
	laneWorth = laneSize / 4
)

// A lane is where a consumer puts the replies to a run of a session's messages:
// a block that only the consumer touches, so that a reply takes no lock. What
// is in it comes in front of everything else that was queued since it was opened;
// so it opens when nothing is queued, and nothing is written until it is closed.
// Whoever else sends to the session, or ends it, breaks the lane: what the
// consumer replies from then on goes behind that.
//
// Session.Reply knows that it is called from the callback by the message that it
// answers, which is the consumer's own and lent to the callback alone.
type lane struct {
	consumer *consumer
	session  *Session    // that it is open for, or nil
	b        []byte      // the replies
	packets  int         // bytes that b may hold where the session speaks packets, else 0
	limit    int         // bytes that b may hold
	messages int         // in b
	broken   atomic.Bool // set with the session's out.mu held
	block    *block      // b's memory; nil until the lane is opened
}

// append encodes m at the lane's end, and reports false where only the outbox can
// tell what becomes of m; the lane is closed then.
func (l *lane) append(m *framing.Message) bool {
	s := l.session
	size := len(m.Ext) + len(m.Payload) + encodeSlack
	if !l.broken.Load() && len(l.b)+size > l.limit && size <= l.limit {
		l.consumer.closeLane(true) // full: it goes on empty, if the socket takes that much
		l.consumer.openLane(s)
	}
	if l.session == s && !l.broken.Load() && len(l.b)+size <= l.limit {
		b, err := encode(s.codec, l.b, m)
		if err == nil {
			if len(b) > len(l.b) {
				l.b = b
				l.messages++
			}
			return true
		}
		if p, ok := err.(*PanicError); ok { //nolint:errorlint // as encode made it
			s.notePanic(p)
			s.end(p, false)
		}
	}
	l.consumer.closeLane(false)
	return false
}

// openLane opens the lane for s, which is corked, if nothing is queued there.
func (c *consumer) openLane(s *Session) {
	l := &c.lane
	if l.session == s || !s.stateless {
		return
	}
	c.closeLane(false)
	s.out.mu.Lock()
	if s.out.pending == 0 && s.phase == phaseOpen && !s.writing {
		if l.block == nil {
			l.block = newBlock(laneSize)
		}
		l.b = l.block.b
		// So no payload above MaxMessageSize fits.
		l.limit = min(laneSize, s.out.limits.OutboxSoftMark, s.out.limits.MaxMessageSize+framing.PacketHeaderSize)
		l.packets = 0
		if s.packets {
			l.packets = l.limit
		}
		l.consumer, l.session, s.laned = c, s, true
	}
	s.out.mu.Unlock()
}

// closeLane queues what the lane holds, and writes it if it is much, or if flush
// says so.
func (c *consumer) closeLane(flush bool) {
	s := c.lane.session
	if s == nil {
		return
	}
	s.out.mu.Lock()
	s.mergeLaneLocked(&c.lane)
	if (flush || s.out.pending >= laneWorth) && !s.writing && !s.blocked.Load() {
		s.flushLocked()
	}
	s.out.mu.Unlock()
}

// breakLaneLocked keeps the order of what was sent beside the lane, and reports
// whether it may be written: not before the lane is closed, which only the consumer can
// do. So a callback that sends much to its own session writes it as it goes, and
// what others send waits until the callback under way returns.
func (s *Session) breakLaneLocked() bool {
	c := &s.core.consumer
	c.lane.broken.Store(true)
	if s.out.pending < flushBytes || goroutineID() != c.goroutine.Load() {
		return false
	}
	s.mergeLaneLocked(&c.lane)
	return true
}

// mergeLaneLocked closes l and moves what it holds to the front of the outbox.
func (s *Session) mergeLaneLocked(l *lane) {
	o, n, messages := &s.out, len(l.b), l.messages
	l.session, s.laned, l.messages = nil, false, 0
	l.broken.Store(false)
	if n == 0 || s.phase == phaseEnded || s.broken {
		return
	}
	var b *block
	if n < laneWorth {
		b = blockOf(l.b)
	} else {
		b, l.block = l.block, nil
		b.b = l.b
	}
	b.messages = messages
	o.messages += messages
	o.pending += n
	o.putBack(b)
	s.congestLocked()
}
