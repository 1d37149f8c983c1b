package engine

import (
	"encoding/binary"
	"runtime/debug"
	"sync/atomic"

	"github.com/millrace/millrace/framing"
)

const (
	// batchRecords and batchBytes end a batch: replies are flushed and ring
	// space is given back at least so often.
	batchRecords = 256
	batchBytes   = 128 << 10

	// flushBytes is how much a corked session queues before it is flushed in
	// the middle of a batch.
	flushBytes = 64 << 10
)

// A consumer runs a core's callbacks: on the worker, or on the loop in Inline
// dispatch. Exactly one goroutine uses it.
type consumer struct {
	core    *core
	handler Handler
	m       framing.Message // what OnMessage gets, and nobody else
	lane    lane

	goroutine atomic.Uint64 // the consumer's, by goroutineID
	dirty     []*Session    // corked: flushed at the end of the batch
}

// batch consumes some of the ring and reports whether more may be there.
func (c *consumer) batch() bool {
	r := c.core.ring
	records, bytes := 0, 0
	for records < batchRecords && bytes < batchBytes {
		kind, payload, ok := r.Next()
		if !ok {
			break
		}
		records++
		bytes += len(payload)
		c.record(kind, payload)
	}
	n := r.Release()
	c.flush()
	if n > 0 {
		c.core.released()
	}
	if records > 0 {
		c.core.stats.batches.Add(1)
		c.core.stats.records.Add(uint64(records))
	}
	return records > 0
}

// record handles one record.
func (c *consumer) record(kind uint32, p []byte) {
	s := c.core.slots.get(ID(binary.LittleEndian.Uint64(p)))
	p = p[recordIDSize:]
	if s == nil {
		if kind == recordLarge {
			c.core.large.take(binary.LittleEndian.Uint32(p)).block.free()
		}
		return
	}
	switch kind {
	case recordMessages:
		c.messages(s, p)
	case recordFrames:
		c.frames(s, p)
	case recordLarge:
		l := c.core.large.take(binary.LittleEndian.Uint32(p))
		c.message(s, &l.m)
		l.block.free()
	case recordOpen:
		c.open(s)
	case recordEnd:
		s.messagesDone()
	case recordClosed:
		c.closed(s)
	}
}

// messages runs OnMessage for every message of a record.
func (c *consumer) messages(s *Session, p []byte) {
	c.cork(s)
	defer c.recover(s)
	for off := 0; off < len(p) && !s.muted.Load(); {
		n := getMessage(p[off:], &c.m)
		if off == 0 && n < len(p) {
			c.openLane(s)
		}
		off += n
		c.handler.OnMessage(s, &c.m)
		if c.lane.broken.Load() {
			c.closeLane(false)
		}
	}
}

// message runs OnMessage for one message.
func (c *consumer) message(s *Session, m *framing.Message) {
	if s.muted.Load() {
		return
	}
	c.cork(s)
	defer c.recover(s)
	c.handler.OnMessage(s, m)
}

func (c *consumer) open(s *Session) {
	c.cork(s)
	if s.link != nil {
		defer s.link.turn.take().opened()
	}
	defer c.recover(s)
	c.handler.OnOpen(s)
}

// closed runs OnClose and forgets the session.
func (c *consumer) closed(s *Session) {
	defer s.core.forget(s)
	if s.link != nil {
		defer s.link.turn.take().pass()
	}
	defer c.recover(s)
	s.muted.Store(true) // no OnMessage behind OnClose, whatever a Transport delivers
	reason := s.Err()
	c.core.stats.closed.add(reason)
	c.handler.OnClose(s, reason)
}

// recover turns a panic of a callback into the end of its session.
func (c *consumer) recover(s *Session) {
	v := recover()
	if v == nil {
		return
	}
	err := &PanicError{Value: v, Stack: debug.Stack()}
	s.notePanic(err)
	s.end(err, false)
}

// cork makes s keep what is sent to it until flush, so that the replies to a
// batch leave in one write, whoever sends them.
func (c *consumer) cork(s *Session) {
	if !s.corked.Load() {
		s.corked.Store(true)
		c.dirty = append(c.dirty, s)
	}
}

// flush writes what the batch's sessions were sent.
func (c *consumer) flush() {
	c.closeLane(false)
	for i, s := range c.dirty {
		c.dirty[i] = nil
		s.uncork()
	}
	c.dirty = c.dirty[:0]
}
