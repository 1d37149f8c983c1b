package engine

import (
	"errors"
	"unsafe"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

// maxFrameOverhead is how many bytes a frame may add to its message before an
// incomplete one counts as too large, whatever its codec returns.
const maxFrameOverhead = 64 << 10

// process decodes b, the tail and the bytes read behind it, and delivers its
// messages. The rest becomes the tail. seen bytes of b were seen by Decode.
func (c *socketConn) process(b []byte, seen int) {
	k := c.session.core
	k.decoding = true
	rest := c.decode(b, seen)
	k.decoding = false
	k.records.publish()
	c.stopMuted()
	if c.input >= inputDraining {
		rest = nil
	}
	c.keep(rest)
	c.seen = 0
	if c.backlog&dueTail == 0 {
		c.seen = int32(len(rest))
	}
	c.notePartial()
	if k.inline {
		k.consumer.flush()
	}
}

// decode passes b through the stages, from the connection's present one, until
// more bytes are needed or the session may not go on. It returns the rest.
func (c *socketConn) decode(b []byte, seen int) (rest []byte) {
	k := c.session.core
	c.backlog &^= dueTail
	defer c.session.recoverPanic()
	if k.inline {
		k.consumer.cork(c.session)
	}
	for more := true; more && !c.stopped(len(b)); seen = 0 { // a stage has seen nothing of what another one left
		switch c.stage {
		case stageProxyHeader:
			b, more = c.decodeProxyHeader(b)
		case stageTLSOrPlain:
			b, more = c.detectTLS(b)
		case stageUnknown:
			more = c.sniff(b)
		case stageHandshake, stageOpen:
			b, more = c.decodeMessages(b, seen)
		case stageTLSHandshake, stageGone: // neither has plaintext
			more = false
		}
	}
	if c.input >= inputDraining {
		return nil
	}
	return b
}

// stopped reports whether decoding must stop in front of left bytes: there are
// none, the session ends, it may not be read, or a record waits for ring space.
// Whole messages may be among the bytes.
func (c *socketConn) stopped(left int) bool {
	if left == 0 || c.input >= inputDraining {
		return true
	}
	if c.backlog&waiting == 0 && c.session.reading.Load() == 0 {
		return false
	}
	c.backlog |= dueTail
	return true
}

// stopMuted stops the input of a session that its handler, or a panic, has ended.
func (c *socketConn) stopMuted() {
	if c.session.closing.Load() == closingAll && c.input < inputDraining {
		c.stopInput(inputDraining)
	}
}

// sniff finds the protocol of an accepted connection by its first bytes; false
// if they are too few, or the session ends.
func (c *socketConn) sniff(b []byte) bool {
	for _, p := range c.session.listener.streams {
		switch p.protocol.Match(b) {
		case MatchYes:
			c.adopt(p)
			return true
		case MatchMore: // a later protocol may not win while this one is undecided
			if len(b) < minBlockSize {
				c.firstBytes()
				return false
			}
		case MatchNo:
		}
	}
	c.endBehindMessages(errUnknownProtocol)
	return false
}

// adopt gives c the protocol that it speaks.
func (c *socketConn) adopt(p *streamProtocol) {
	s := c.session
	defer c.stopMuted()
	defer s.recoverPanic() // of a custom protocol
	s.transport = p.stats
	if c.tls != nil {
		s.transport = p.secure
	}
	s.transport.active.Add(1)
	codec := p.protocol.Accept(s)
	if codec == nil {
		panic("engine: StreamProtocol.Accept returned no codec")
	}
	h, ok := codec.(Handshaker)
	handshake := ok && h.NeedsHandshake()
	c.setCodec(codec)
	c.stage = stageHandshake
	switch {
	case c.refused:
		c.stopInput(inputDraining)
		c.close(s.ending, false) // Goodbye refuses it in the protocol's way
	case handshake:
		c.firstBytes()
	default:
		s.Establish()
	}
}

// Establish opens the session: its protocol's handshake is complete. OnOpen
// follows, then messages. For a Codec, from Decode only, once.
func (s *Session) Establish() {
	if c, ok := s.conn.(*socketConn); ok {
		c.establish()
	}
}

func (c *socketConn) establish() {
	s := c.session
	if c.stage != stageHandshake || c.input >= inputDraining {
		return
	}
	s.out.mu.Lock()
	if s.phase == phaseHandshake {
		s.phase, s.opened = phaseOpen, true
	}
	opened := s.opened
	s.out.mu.Unlock()
	if !opened { // its connection broke meanwhile
		c.stopInput(inputDraining)
		return
	}
	c.stage = stageOpen
	if s.listener != nil {
		s.core.engine.admission.endHandshake()
	}
	c.lastRead = s.core.deadline(0)
	c.startDeadline(deadlineNone, 0)
	s.transport.opened.Add(1)
	c.post(dueOpen)
}

// SendControl queues a whole control frame, copied, ahead of queued messages.
// It works before Establish too, which is how a handshake answers. For a Codec.
// Errors: ErrWouldBlock when 4 KiB of control frames wait, else as Send.
func (s *Session) SendControl(frame []byte) error {
	c, ok := s.conn.(*socketConn)
	if !ok {
		return errors.ErrUnsupported // a Transport makes its own
	}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if err := s.out.appendControl(frame); err != nil {
		return err
	}
	c.kickLocked()
	return nil
}

// decodeMessages decodes and delivers messages, and the frames of the protocol's
// handshake before them.
func (c *socketConn) decodeMessages(b []byte, seen int) (rest []byte, more bool) {
	if c.kind == codecPackets {
		return c.decodePackets(b)
	}
	s, k := c.session, c.session.core
	delivered, limit := 0, k.engine.lim.MaxMessageSize+maxFrameOverhead
	if k.inline {
		k.consumer.several = false
	}
	for len(b) > 0 {
		n, ok, err := c.codec.Decode(s, b, seen, k.inbound)
		switch {
		case err != nil:
		case n == 0 && len(b) > limit:
			err = ErrTooLarge
		case ok && c.stage == stageHandshake:
			err = errEarlyMessage
		}
		if err != nil {
			c.endBehindMessages(protocolError(err))
			break
		}
		if n == 0 {
			break
		}
		b, seen = b[n:], 0
		if ok {
			delivered++
			switch {
			case !k.inline:
				c.deliver(k.inbound, len(b))
			case s.closing.Load() == closingAll:
				c.stopInput(inputDraining)
			default:
				k.consumer.several = k.consumer.several || len(b) > 0
				k.consumer.handle(s, k.inbound, true)
			}
		}
		if c.input >= inputDraining || c.backlog&waiting != 0 || s.reading.Load() != 0 {
			c.stopped(len(b))
			break
		}
	}
	c.delivered(delivered)
	return b, false
}

// deliver hands one message to the ring. left bytes of input follow it. If the
// ring is full it keeps the message.
func (c *socketConn) deliver(m *framing.Message, left int) {
	s, k := c.session, c.session.core
	if messageSize(m) <= k.share-recordIDSize {
		if k.records.message(s, m, left) == nil {
			return
		}
		c.undelivered = copyLarge(m)
	} else {
		c.undelivered = c.detach(m, left)
		if c.deliverAgain() {
			return
		}
	}
	c.backlog |= dueMessage
	k.stall(c)
}

// deliverAgain puts the undelivered message into the ring, and reports whether
// there was space for it.
func (c *socketConn) deliverAgain() bool {
	s, k, l := c.session, c.session.core, c.undelivered
	if messageSize(&l.m) <= k.share-recordIDSize {
		if k.records.message(s, &l.m, 0) != nil {
			return false
		}
		k.records.publish()
		l.block.free()
	} else if k.records.large(s, cap(l.block.b), func() *largeMessage { return l }) != nil {
		return false
	}
	c.undelivered = nil
	return true
}

// detach returns m as a large message: with the tail's block itself if m is all
// that is in it, else as a copy.
func (c *socketConn) detach(m *framing.Message, left int) *largeMessage {
	t := c.tail
	if left > 0 || t == nil || !aliases(t.b[:cap(t.b)], m.Payload) {
		return copyLarge(m)
	}
	c.tail = nil
	return &largeMessage{m: *m, block: t}
}

// aliases reports whether p starts in b's memory.
func aliases(b, p []byte) bool {
	start, at := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(unsafe.SliceData(p)))
	return len(p) > 0 && at >= start && at < start+uintptr(cap(b))
}

// decodePackets is decodeMessages for packets. Inline, the handler gets them where
// they lie. With Workers the loop only finds where they end, and copies as many as
// a record may hold into the ring at once; the worker decodes them a second time,
// which costs less than a header of our own for each.
func (c *socketConn) decodePackets(b []byte) (rest []byte, more bool) {
	s, k := c.session, c.session.core
	limit, delivered := k.engine.lim.MaxMessageSize, 0
	for !c.stopped(len(b)) {
		var size, count int
		if k.inline {
			size, count = k.consumer.packets(s, b, true)
		} else if size, count = packet.Run(b, limit, k.share-recordIDSize); size > 0 && k.records.packets(s, b[:size]) != nil {
			k.stall(c)
			continue
		}
		b, delivered = b[size:], delivered+count
		if size > 0 && !k.inline {
			continue
		}
		if c.stopped(len(b)) {
			break
		}
		// The start of a packet, a wrong one, one that is too large for a record, or,
		// inline, one behind the end of the session.
		if k.inline && s.closing.Load() == closingAll {
			c.stopInput(inputDraining)
			break
		}
		n, err := framing.Packet{}.Decode(b, 0, limit, k.inbound)
		if err != nil {
			c.endBehindMessages(protocolError(err))
			break
		}
		if n == 0 {
			break
		}
		b = b[n:]
		delivered++
		c.deliver(k.inbound, len(b))
	}
	c.delivered(delivered)
	return b, false
}

// delivered accounts for n messages.
func (c *socketConn) delivered(n int) {
	c.core().stats.messagesIn.Add(uint64(n))
	if t := c.session.throttle; t != nil && c.stage == stageOpen {
		t.hold(c, n)
	}
}
