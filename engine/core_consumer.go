package engine

import (
	"encoding/binary"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

const (
	// batchRecords and batchBytes end a batch: then replies are flushed and ring
	// space is released.
	batchRecords = 256
	batchBytes   = 128 << 10

	// flushBytes is how many bytes a corked session queues before it is flushed in
	// the middle of a batch.
	flushBytes = 64 << 10
)

// A consumer runs a core's callbacks: on the worker, or on the loop in Inline
// dispatch. Exactly one goroutine uses it.
type consumer struct {
	core    *core
	handler Handler
	m       framing.Message // lent to the callback that is running
	replies replyBuffer
	collect bool // more messages of the session follow, so its replies are collected

	dirty []*Session // corked: flushed behind their messages
}

// batch consumes part of the ring and reports whether more may be there.
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
		if c.core.late.Load() {
			c.flushLate()
		}
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

// record handles one record. Before that it flushes the replies of another session's
// records: they must not wait for this session's callbacks.
func (c *consumer) record(kind uint32, p []byte) {
	s := c.core.slots.get(ID(binary.LittleEndian.Uint64(p)))
	p = p[recordIDSize:]
	var large *largeMessage
	if kind == recordLarge {
		large = c.core.large.take(binary.LittleEndian.Uint32(p))
		defer large.block.free()
	}
	if s == nil {
		return // it ended before its record was consumed
	}
	if !s.corked.Load() {
		c.flush()
	}
	c.cork(s)
	switch kind {
	case recordPackets:
		defer s.recoverPanic()
		c.packets(s, p)
	case recordMessages:
		defer s.recoverPanic()
		c.messages(s, p)
	case recordLarge:
		defer s.recoverPanic()
		if s.closing.Load() != closingAll {
			c.collect = false
			c.handle(s, &large.m, true)
		}
	case recordOpen:
		c.open(s)
	case recordEnd:
		s.messagesHandled()
	case recordClosed:
		c.closed(s)
	}
}

// packets handles the packets of a record. The loop has seen that they are complete and
// valid. It calls OnMessage itself, and checks nothing that the loop has checked: that
// saves about two of 17 ns a message.
func (c *consumer) packets(s *Session, p []byte) {
	limit, h := s.out.limits.MaxMessageSize, c.handlerOf(s)
	for off := 0; off < len(p) && s.closing.Load() != closingAll; {
		b := p[off:]
		head := packet.ReadHeader(b)
		n, _ := head.Size(limit)
		fillPacket(&c.m, head, b[packet.HeaderSize:n:n])
		if off == 0 {
			c.collect = n < len(p)
		}
		off += n
		h.OnMessage(s, &c.m)
		if c.replies.overtaken.Load() {
			c.replies.close(false)
		}
		if c.core.late.Load() {
			c.flushLate()
			c.cork(s)
		}
	}
}

// packetsInPlace handles the complete packets at the start of b, on the loop, and
// returns their size in bytes and their number. It stops before a packet that Decode
// refuses, and when the session ends or may not be read. It calls OnMessage itself, as
// packets does.
func (c *consumer) packetsInPlace(s *Session, b []byte) (size, count int) {
	limit, h := s.out.limits.MaxMessageSize, c.handlerOf(s)
	for len(b)-size >= packet.HeaderSize && s.closing.Load() != closingAll {
		p := b[size:]
		head := packet.ReadHeader(p)
		n, ok := head.Size(limit)
		if !ok || n > len(p) {
			break
		}
		fillPacket(&c.m, head, p[packet.HeaderSize:n:n])
		if size == 0 {
			c.collect = n < len(p)
		}
		size += n
		count++
		h.OnMessage(s, &c.m)
		if c.replies.overtaken.Load() {
			c.replies.close(false)
		}
		if s.reading.Load() != 0 || c.core.late.Load() {
			break
		}
	}
	return size, count
}

// messages handles every message of a record.
func (c *consumer) messages(s *Session, p []byte) {
	for off := 0; off < len(p) && s.closing.Load() != closingAll; {
		n := getMessage(p[off:], &c.m)
		if off == 0 {
			c.collect = n < len(p)
		}
		off += n
		c.handle(s, &c.m, true)
		if c.core.late.Load() {
			c.flushLate()
			c.cork(s)
		}
	}
}

// handle runs OnMessage for one message. own is true on the consumer's goroutine,
// which then closes its reply buffer if the replies were overtaken.
func (c *consumer) handle(s *Session, m *framing.Message, own bool) {
	c.handlerOf(s).OnMessage(s, m)
	if own && c.replies.overtaken.Load() {
		c.replies.close(false)
	}
}

// handlerOf returns the handler of s: its listener's, or the engine's if s was dialed.
func (c *consumer) handlerOf(s *Session) Handler {
	if l := s.listener; l != nil {
		return l.policy.handler
	}
	return c.handler
}

// open runs OnOpen.
func (c *consumer) open(s *Session) {
	l := s.conn.callbackLock().lock()
	defer l.unlock()
	defer l.open()
	defer s.recoverPanic()
	defer s.dropTemporary()
	c.handlerOf(s).OnOpen(s)
}

// closed runs OnClose and frees the session's slot.
func (c *consumer) closed(s *Session) {
	defer c.core.leave(s)
	defer s.conn.callbackLock().lock().unlock()
	defer s.recoverPanic()
	s.out.mu.Lock()
	s.closing.Store(closingAll) // no OnMessage after OnClose, even if a Transport delivers one
	reason := s.out.refused
	s.out.mu.Unlock()
	c.core.stats.closed.add(reason)
	s.cancelContext(reason)
	c.handlerOf(s).OnClose(s, reason)
}

// cork makes s keep its outgoing bytes until flush, so that the replies to a batch
// are written together, from every goroutine that sends them.
func (c *consumer) cork(s *Session) {
	if !s.corked.Load() {
		s.corked.Store(true)
		c.dirty = append(c.dirty, s)
	}
}

// flushLate is flush in a batch that has lasted a watch interval, so that replies do not
// wait for its end.
func (c *consumer) flushLate() {
	c.core.late.Store(false)
	c.core.engine.watch.Wake() // the batch goes on
	c.flush()
}

// flush writes the outgoing bytes of the batch's sessions.
func (c *consumer) flush() {
	c.replies.close(false)
	for i, s := range c.dirty {
		c.dirty[i] = nil
		s.corked.Store(false)
		s.conn.flush()
	}
	c.dirty = c.dirty[:0]
}
