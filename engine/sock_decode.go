package engine

import (
	"unsafe"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

// maxFrameOverhead is how many bytes a frame may add to its message. An incomplete frame
// that is larger counts as too large, for any codec.
const maxFrameOverhead = 64 << 10

// process decodes b, the tail and the bytes read after it, and delivers its messages. The
// rest becomes the tail. Decode has examined seen bytes of b already.
func (c *socketConn) process(b []byte, seen int) {
	k := c.session.core
	consumes := k.consumes()
	k.decoding = true
	rest := c.decode(b, seen)
	if consumes {
		k.reclaim(c) // after a panic
	}
	k.decoding = false
	k.records.publish()
	c.stopIfClosed()
	if c.input >= inputDraining {
		rest = nil
	}
	c.keep(rest)
	c.seen = 0
	if c.backlog&dueTail == 0 {
		c.seen = int32(len(rest))
	}
	c.notePartial(len(rest) < len(b))
	if consumes {
		k.consumer.flush()
	}
}

// decode passes b through the stages, from the connection's present one, until more bytes
// are needed or the session may not continue. It returns the rest.
func (c *socketConn) decode(b []byte, seen int) (rest []byte) {
	k := c.session.core
	c.backlog &^= dueTail
	defer c.session.recoverPanic()
	if k.inline {
		k.consumer.cork(c.session)
	}
	for more := true; more && !c.mustStop(len(b)); seen = 0 { // a stage has seen no bytes that another one left
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
	if c.stage == stageHandshake && len(b) > 0 && c.session.reading.Load() != 0 {
		c.backlog |= dueTail // Await has ended the decoding
	}
	return b
}

// mustStop reports whether decoding must stop before the last left bytes: there are none,
// the session ends, it may not be read, or a record waits for ring space. It notes in the
// backlog that the bytes may contain complete messages.
func (c *socketConn) mustStop(left int) bool {
	if left == 0 || c.input >= inputDraining {
		return true
	}
	if c.backlog&waiting == 0 && c.session.reading.Load() == 0 {
		return false
	}
	c.backlog |= dueTail
	return true
}

// decodeMessages decodes messages, and the frames of the protocol's handshake before
// them, and passes them to the handler or to the ring. more reports that the rest is to be
// decoded, too.
func (c *socketConn) decodeMessages(b []byte, seen int) (rest []byte, more bool) {
	k := c.session.core
	if c.stage == stageHandshake {
		if first := c.session.firstAwaited(); first != nil {
			return c.decodeFirst(b, seen, first)
		}
	}
	if c.kind == codecPackets {
		return c.decodePackets(b), false
	}
	var n, count int
	var err error
	if (c.stage == stageOpen || k.inline) && k.direct() {
		rest, n, count, err = c.handleMessages(b, seen)
	} else {
		rest, n, count, err = c.deliverMessages(b, seen)
	}
	switch {
	case err != nil:
		c.endBehindMessages(protocolError(err))
	case n == 0 && len(rest) > c.session.out.limits.MaxMessageSize+maxFrameOverhead:
		c.endBehindMessages(ErrTooLarge)
	}
	c.stopIfClosed()
	c.delivered(count)
	return rest, n > 0 && err == nil
}

// handleMessages decodes and handles messages in place, until more bytes are needed or the
// session may not continue. n is the result of the last Decode, count the number of
// messages. Between lend and reclaim it uses nothing of c that the reader may change.
func (c *socketConn) handleMessages(b []byte, seen int) (rest []byte, n, count int, err error) {
	s, k := c.session, &c.session.core.consumer
	k.cork(s)
	k.collect = false
	k.core.lend(c)
	defer k.core.reclaim(c)
	for more := true; more && len(b) > 0; more = s.reading.Load() == 0 && !k.core.late.Load() {
		var ok bool
		n, ok, err = c.codec.Decode((*Control)(c), b, seen, &k.m)
		if err != nil || n == 0 {
			break
		}
		b, seen = b[n:], 0
		if !ok {
			continue
		}
		if c.stage == stageHandshake {
			err = errEarlyMessage
			break
		}
		if s.closing.Load() == closingAll {
			break
		}
		count++
		k.collect = k.collect || len(b) > 0
		k.handle(s, &k.m, true)
	}
	return b, n, count, err
}

// deliverMessages is handleMessages into the ring.
func (c *socketConn) deliverMessages(b []byte, seen int) (rest []byte, n, count int, err error) {
	k := c.session.core
	for !c.mustStop(len(b)) {
		var ok bool
		n, ok, err = c.codec.Decode((*Control)(c), b, seen, k.inbound)
		if err == nil && ok && c.stage == stageHandshake {
			err = errEarlyMessage
		}
		if err != nil || n == 0 {
			break
		}
		b, seen = b[n:], 0
		if ok {
			count++
			c.deliver(k.inbound, len(b))
		}
	}
	return b, n, count, err
}

// deliver hands one message to the ring. left bytes of input follow it. If the
// ring is full, or the open record waits for space, it keeps the message.
func (c *socketConn) deliver(m *framing.Message, left int) {
	s, k := c.session, c.session.core
	first := c.backlog&waiting == 0
	if messageSize(m) <= k.share-recordIDSize {
		if first && k.records.message(s, m, left) == nil {
			return
		}
		c.undelivered = copyLarge(m)
	} else {
		c.undelivered = c.detach(m, left)
		if first && c.deliverAgain() {
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

// detach returns m as a large message: with the tail's block itself if the block contains
// only m, else with a copy.
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

// decodePackets is decodeMessages for packets. In place, the handler gets them at once. For
// the ring the loop only finds their ends, and copies as many as fit into one record. The
// consumer decodes them a second time, which costs less than a header of our own for each
// message.
func (c *socketConn) decodePackets(b []byte) (rest []byte) {
	s, k := c.session, c.session.core
	limit, delivered := s.out.limits.MaxMessageSize, 0
	for !c.mustStop(len(b)) {
		var size, count int
		if k.direct() {
			k.consumer.cork(s)
			k.lend(c)
			size, count = k.consumer.packetsInPlace(s, b)
			k.reclaim(c)
			c.stopIfClosed()
		} else if size, count = packet.Run(b, limit, k.share-recordIDSize); size > 0 && k.records.packets(s, b[:size]) != nil {
			k.stall(c)
			continue
		}
		if size > 0 || c.input >= inputDraining { // only mustStop decides whether to continue
			b, delivered = b[size:], delivered+count
			continue
		}
		// An incomplete packet, an invalid one, or one that is too large for a record.
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
	return b
}

// delivered counts n messages, and applies the rates.
func (c *socketConn) delivered(n int) {
	if n > 0 {
		c.partialEnds = 0
	}
	c.core().stats.messagesIn.Add(uint64(n))
	if t := c.session.rates(); t != nil && c.stage == stageOpen {
		t.hold(c, n)
	}
}
