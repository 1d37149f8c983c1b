package engine

import (
	"sync/atomic"
)

const (
	// laneSize is the size in bytes of a lane's block: as much as one write takes.
	laneSize = flushBytes
	// laneWorth is how many bytes of a lane are worth a write of their own before
	// the batch ends. Fewer are copied into a block of their size.
	laneWorth = laneSize / 4
)

// A lane is where a consumer puts the replies to a run of a session's packets:
// a block that only the consumer touches, so that a reply takes no lock. What
// is in it comes in front of everything else that was queued since it was opened;
// so it opens when nothing is queued, and nothing is written until it is closed.
// Whoever else sends to the session, or ends it, breaks the lane: what the
// consumer replies from then on goes behind that.
//
// Session.Reply knows that it is called from the callback by the message that it
// answers, which is the consumer's own and lent to the callback alone.
type lane struct {
	session  *Session    // that it is open for, or nil
	b        []byte      // the replies
	limit    int         // bytes that b may hold
	max      int         // bytes of payload that a reply may have
	messages int         // in b
	broken   atomic.Bool // set with the session's out.mu held
	block    *block      // b's memory; nil until the lane is opened
}

// openLane opens the lane for s, which is corked, if nothing is queued there.
func (c *consumer) openLane(s *Session) {
	l := &c.lane
	if l.session == s {
		return
	}
	c.closeLane()
	s.out.mu.Lock()
	if s.out.pending == 0 && s.phase == phaseOpen && !s.writing {
		if l.block == nil {
			l.block = newBlock(laneSize)
		}
		l.b = l.block.b
		l.limit = min(laneSize, s.out.limits.OutboxSoftMark)
		l.max = s.out.limits.MaxMessageSize
		l.broken.Store(false)
		l.session, s.out.lane = s, l
	}
	s.out.mu.Unlock()
}

// closeLane queues what the lane holds, and writes it if it is much.
func (c *consumer) closeLane() {
	s := c.lane.session
	if s == nil {
		return
	}
	s.out.mu.Lock()
	s.mergeLaneLocked(&c.lane)
	if s.out.pending >= laneWorth && !s.writing && !s.blocked.Load() {
		s.flushLocked()
	}
	s.out.mu.Unlock()
}

// mergeLaneLocked closes l and moves what it holds to the front of the outbox.
func (s *Session) mergeLaneLocked(l *lane) {
	o, n, messages := &s.out, len(l.b), l.messages
	l.session, o.lane, l.messages = nil, nil, 0
	if n == 0 || s.phase == phaseEnded || s.broken {
		return
	}
	var b *block
	if n < laneWorth {
		b = blockOf(l.b)
	} else {
		b, l.block = l.block, nil
		b.b = b.b[:n]
	}
	b.messages = messages
	o.messages += messages
	o.pending += n
	o.putBack(b)
	s.congestLocked()
}
