package engine

import (
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/reactor"
)

// smallTail is the largest incomplete tail that is copied in front of the next
// read; above it the read goes behind the tail in place, so that a large message in small
// pieces is copied a constant number of times.
const smallTail = 4 << 10

// maxFrameOverhead is what a frame may add to its message before an incomplete
// one counts as too large whatever its codec says.
const maxFrameOverhead = 64 << 10

// socket is a Session as its loop sees it: it keeps OnEvent out of the public
// face.
type socket Session

// OnEvent runs on the session's loop.
func (k *socket) OnEvent(ev reactor.Event) {
	s := (*Session)(k)
	if ev&reactor.Writable != 0 && s.blocked.Load() {
		s.writable()
	}
	if ev&reactor.ToTheEnd != 0 {
		s.toTheEnd = true
	}
	if ev&reactor.Readable != 0 {
		s.read()
	}
}

// read takes what the socket has, up to one buffer, or notes that there is
// something for when the session may read again.
func (s *Session) read() {
	if s.destroyed {
		return
	}
	if s.inputDone {
		s.discardInput()
		return
	}
	// Loaded once: the consumer may clear it at any time, and then goes on with
	// those that are queued; who took it for set must be among them.
	// And a session that is queued has something to say first: its OnOpen, or a
	// message that found no room.
	stalled := s.core.stalled.Load()
	if stalled || s.stalled || s.unparsed || s.readBlocks.Load() > 0 {
		s.unread = true
		if stalled {
			s.core.stall(s)
		}
		return
	}
	s.unread = false
	if s.tls != nil {
		s.readTLS()
		return
	}
	buf, have := s.readTarget()
	n, err := reactor.Read(s.conn.FD, buf[have:])
	if n <= 0 {
		s.keep(buf[:have])
		s.readFailed(err)
		return
	}
	s.lastRead = s.core.tick
	s.core.stats.bytesIn.Add(uint64(n))
	full := n == len(buf)-have
	if s.throttle != nil {
		s.throttle.fresh = n
	}
	s.process(buf[:have+n], s.seen)
	if full || s.toTheEnd {
		s.unread = true
		if !s.stalled && !s.destroyed {
			s.core.loop.Again((*socket)(s))
		}
	}
}

// readTarget returns where to read: have bytes of it are the incomplete tail.
func (s *Session) readTarget() (buf []byte, have int) {
	t := s.tail
	if t == nil {
		return s.core.readBuf, 0
	}
	if len(t.b) <= smallTail && len(t.b) < len(s.core.readBuf)/2 {
		have = copy(s.core.readBuf, t.b)
		s.tail = nil
		t.free()
		return s.core.readBuf, have
	}
	if size := s.tailSize(t); size > cap(t.b) {
		bigger := newBlock(size)
		bigger.b = append(bigger.b, t.b...)
		s.tail = bigger
		t.free()
		t = bigger
	}
	return t.b[:cap(t.b)], len(t.b)
}

// maxTailGrowth is how many times the bytes that have arrived, and 64 KiB, a block
// may hold for a frame that is only announced.
const maxTailGrowth = 4

// tailSize is how large the tail's block shall be for the next read. Where the codec
// knows the size of the frame that is at its start, the block grows to that, by steps
// of maxTailGrowth, so that a peer which announces much and sends little pins
// little; else it doubles when it is nearly full.
func (s *Session) tailSize(t *block) int {
	if need := s.frameSize(t.b); need > 0 {
		if need <= cap(t.b) || t.room() >= minBlockSize {
			return cap(t.b)
		}
		// Steps that end at need, so that all of them together are 4/3 of it.
		for need > maxTailGrowth*len(t.b)+maxFrameOverhead {
			need = (need + maxTailGrowth - 1) / maxTailGrowth
		}
		return need
	}
	if t.room() < cap(t.b)/4 {
		return 2 * cap(t.b)
	}
	return cap(t.b)
}

// frameSize is the size of the incomplete frame b starts with, or 0 if it isn't
// known to be more than b.
func (s *Session) frameSize(b []byte) int {
	c, ok := s.codec.(SizedCodec)
	if !ok {
		return 0
	}
	defer s.recoverDecode()
	need := c.Need(b)
	if need <= len(b) || need > s.core.engine.lim.MaxMessageSize+maxFrameOverhead {
		return 0
	}
	return need
}

// readFailed handles a read that brought no bytes.
func (s *Session) readFailed(err error) {
	switch {
	case err == unix.EAGAIN:
	case err == nil && s.tail != nil:
		s.eof = true
		s.endAfterMessages(fmt.Errorf("%w in the middle of a message: %w", ErrPeerClosed, io.ErrUnexpectedEOF))
		_ = settleTask(s) // its end may be all that was missing
	case err == nil:
		s.eof = true
		s.endAfterMessages(ErrPeerClosed)
		_ = settleTask(s)
	default:
		s.inputDone = true
		s.end(fmt.Errorf("%w: read: %w", ErrConnectionLost, err), true)
	}
}

// process decodes b, the tail and what was read behind it, and hands out its messages. What is left
// becomes the tail.
func (s *Session) process(b []byte, seen int) {
	c := s.core
	c.decoding = true
	rest := s.decodeAll(b, seen)
	c.decoding = false
	c.batch.publish()
	if s.inputDone || s.destroyed {
		rest = nil
	}
	s.keep(rest)
	s.seen = 0
	if !s.unparsed {
		s.seen = len(rest)
	}
	if c.inline {
		c.consumer.flush()
	}
}

// keep makes b the session's incomplete tail. b may lie in the read buffer or
// in the tail's own block.
func (s *Session) keep(b []byte) {
	t := s.tail
	switch {
	case len(b) == 0:
		s.tail = nil
		if t != nil {
			t.free()
		}
	case t == nil:
		s.tail = blockOf(b)
	default:
		// b is a suffix of the block's memory: move it to the front.
		full := t.b[:cap(t.b)]
		t.b = full[:copy(full, b)]
	}
}

// decodeAll decodes and delivers until b holds no whole frame, or the session
// may not go on. It returns what it didn't use.
func (s *Session) decodeAll(b []byte, seen int) (rest []byte) {
	c := s.core
	s.unparsed = false
	defer s.recoverDecode()
	if c.inline {
		c.consumer.cork(s)
	}
	delivered := 0
	for len(b) > 0 {
		if s.inputDone {
			b = nil // the handshake could not be completed
			break
		}
		if s.stalled {
			s.unparsed = true // OnOpen found no room in the ring, and comes first
			break
		}
		if s.packets {
			var n int
			if c.inline {
				b, n = s.handlePackets(b)
			} else {
				b, n = s.decodeRun(b)
			}
			delivered += n
			break
		}
		if s.codec == nil {
			if s.headerDue {
				var ok bool
				if b, ok = s.takeHeader(b); !ok {
					break
				}
				seen = 0 // it counted bytes of the header
				continue
			}
			if rest, done := s.layerTLS(b); done {
				b = rest
				break
			}
			if seen = 0; !s.sniff(b) { // the codec has seen nothing yet
				break
			}
			continue
		}
		n, ok, err := s.codec.Decode(s, b, seen, c.inbound)
		if err == nil && n == 0 && len(b) > s.core.engine.lim.MaxMessageSize+maxFrameOverhead {
			err = ErrTooLarge
		}
		if err != nil {
			s.endAfterMessages(protocolError(err))
			b = nil
			break
		}
		if n == 0 {
			break
		}
		b, seen = b[n:], 0
		if !ok {
			continue
		}
		if !s.opened {
			s.endAfterMessages(errEarlyMessage)
			continue
		}
		if c.inline && s.muted.Load() {
			s.inputDone = true
			break
		}
		delivered++
		if c.inline && delivered == 1 && len(b) > 0 {
			c.consumer.openLane(s)
		}
		if !s.deliver(c.inbound, len(b)) || s.readBlocks.Load() > 0 || s.inputDone {
			s.unparsed = len(b) > 0
			break
		}
	}
	c.stats.messagesIn.Add(uint64(delivered))
	if s.throttle != nil && s.opened {
		s.throttleInput(delivered)
	}
	return b
}

// deliver hands one message to the handler or to the ring; false when the
// session has to wait for room, with the message kept in s.stuck.
func (s *Session) deliver(m *framing.Message, left int) bool {
	c := s.core
	if c.inline {
		if s.muted.Load() {
			s.inputDone = true
			return true
		}
		c.consumer.handler.OnMessage(s, m)
		if c.consumer.lane.broken.Load() {
			c.consumer.closeLane(false)
		}
		return true
	}
	if messageSize(m) <= c.share-recordIDSize {
		if c.batch.put(s, m, left) {
			return true
		}
		s.stuck = copyLarge(m)
	} else {
		c.batch.publish()
		if l := s.detachLarge(m, left); !c.putLarge(s, l) {
			s.stuck = l
		}
	}
	if s.stuck != nil {
		c.stall(s)
		return false
	}
	return true
}

// detachLarge returns m as a large message: with the tail's block itself if m
// is all that is in it, else as a copy.
func (s *Session) detachLarge(m *framing.Message, left int) *largeMessage {
	t := s.tail
	if left > 0 || t == nil || !aliases(t.b[:cap(t.b)], m.Payload) {
		return copyLarge(m)
	}
	s.tail = nil
	return &largeMessage{m: *m, block: t}
}

// aliases reports whether p starts in b's memory.
func aliases(b, p []byte) bool {
	start, at := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	return len(p) > 0 && at >= start && at < start+uintptr(cap(b))
}

// deliverStuck tries again to put the message that had no room.
func (s *Session) deliverStuck() bool {
	l := s.stuck
	if l == nil {
		return true
	}
	c := s.core
	if messageSize(&l.m) <= c.share-recordIDSize {
		if !c.batch.put(s, &l.m, 0) {
			return false
		}
		c.batch.publish()
		l.block.free()
	} else if !c.putLarge(s, l) {
		return false
	}
	s.stuck = nil
	return true
}

// goOn continues a session that was stalled or paused: first what is owed to
// the ring, in order, then the bytes at hand, then the socket.
func (s *Session) goOn() {
	if s.destroyed && s.owed == 0 {
		return
	}
	if s.owed&owedOpen != 0 && !s.post(owedOpen) || !s.deliverStuck() {
		s.core.stall(s)
		return
	}
	if s.unparsed && !s.inputDone && !s.destroyed && s.tail != nil && s.readBlocks.Load() == 0 {
		t := s.tail
		s.process(t.b, 0)
		if s.unparsed || s.stalled {
			return
		}
	}
	if s.shutdown && !s.inputDone {
		s.endAfterMessages(ErrShutdown)
	}
	for _, o := range [...]uint8{owedEnd, owedClosed} {
		if s.owed&o != 0 && !s.post(o) {
			s.core.stall(s)
			return
		}
	}
	if s.unread {
		s.read()
	}
}

// resumeReadTask lets a session whose last reason not to read went away go on.
func resumeReadTask(arg any) error {
	s := arg.(*Session)
	if !s.stalled && s.readBlocks.Load() == 0 {
		s.goOn()
	}
	return nil
}

// discardInput reads and drops what the peer still sends to an ending session,
// to see its end.
func (s *Session) discardInput() {
	n, err := reactor.Read(s.conn.FD, s.core.readBuf)
	switch {
	case n > 0:
		s.core.loop.Again((*socket)(s))
	case err == unix.EAGAIN:
	default:
		s.eof = true
		_ = settleTask(s)
	}
}
