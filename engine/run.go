package engine

import (
	"encoding/binary"

	"github.com/millrace/millrace/framing"
)

// decodeRun is decodeAll for packets on their way to a worker. The loop only
// finds where they end, and copies as many as a record may hold into the ring
// at once; the worker decodes them a second time, which costs less than a header
// of our own for each message. It returns what it didn't use, and how many
// messages went on.
func (s *Session) decodeRun(b []byte) (rest []byte, delivered int) {
	c := s.core
	limit, room := s.engine.lim.MaxMessageSize, c.share-recordIDSize
	for {
		run, count := 0, 0
		var n int
		var err error
		for {
			n, err = framing.Packet{}.Decode(b[run:], 0, limit, &c.inbound)
			if n == 0 || run+n > room {
				break
			}
			run += n
			count++
		}
		if run > 0 {
			if !c.putFrames(s, b[:run]) {
				s.unparsed = true
				c.stall(s)
				return b, delivered
			}
			b, delivered = b[run:], delivered+count
		}
		switch {
		case err != nil:
			s.endAfterMessages(protocolError(err))
			return nil, delivered
		case n == 0:
			return b, delivered
		case n > room:
			b = b[n:]
			delivered++
			if !s.deliver(&c.inbound, len(b)) {
				s.unparsed = len(b) > 0
				return b, delivered
			}
		}
		if s.readBlocks.Load() > 0 || s.inputDone {
			s.unparsed = len(b) > 0
			return b, delivered
		}
	}
}

// handlePackets is decodeAll for packets that are handled on the loop.
func (s *Session) handlePackets(b []byte) (rest []byte, delivered int) {
	c := s.core
	limit, h, m := s.engine.lim.MaxMessageSize, c.consumer.handler, &c.inbound
	for {
		n, err := framing.Packet{}.Decode(b, 0, limit, m)
		if n == 0 {
			if err != nil {
				s.endAfterMessages(protocolError(err))
				b = nil
			}
			return b, delivered
		}
		if s.muted.Load() {
			s.inputDone = true
			return nil, delivered
		}
		b = b[n:]
		delivered++
		h.OnMessage(s, m)
		if s.readBlocks.Load() > 0 {
			s.unparsed = len(b) > 0
			return b, delivered
		}
	}
}

// putFrames publishes whole packets of s as they came; false when the ring has
// no room.
func (c *core) putFrames(s *Session, frames []byte) bool {
	claim, ok := c.ring.Claim(recordIDSize + len(frames))
	if !ok {
		return false
	}
	binary.LittleEndian.PutUint64(claim.Buf, uint64(s.id))
	copy(claim.Buf[recordIDSize:], frames)
	c.ring.Commit(claim, recordFrames)
	c.wake()
	return true
}

// frames runs OnMessage for every packet of a record.
func (c *consumer) frames(s *Session, p []byte) {
	c.cork(s)
	defer c.recover(s)
	limit := s.engine.lim.MaxMessageSize
	for len(p) > 0 && !s.muted.Load() {
		n, _ := framing.Packet{}.Decode(p, 0, limit, &c.m) // the loop has seen that it is whole and right
		p = p[n:]
		c.handler.OnMessage(s, &c.m)
	}
}
