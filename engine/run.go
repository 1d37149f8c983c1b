package engine

import (
	"encoding/binary"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

// decodeRun is decodeAll for packets on their way to a worker. The loop only
// finds where they end, and copies as many as a record may hold into the ring
// at once; the worker decodes them a second time, which costs less than a header
// of our own for each message. It returns what it didn't use, and how many
// messages went on.
func (s *Session) decodeRun(b []byte) (rest []byte, delivered int) {
	c := s.core
	limit, room := s.core.engine.lim.MaxMessageSize, c.share-recordIDSize
	for {
		run, count := packet.Run(b, limit, room)
		if run > 0 {
			if !c.putFrames(s, b[:run]) {
				s.unparsed = true
				c.stall(s)
				return b, delivered
			}
			b, delivered = b[run:], delivered+count
		} else { // nothing, the start of a packet, a wrong one, or one that is too large for a record
			n, err := framing.Packet{}.Decode(b, 0, limit, c.inbound)
			switch {
			case err != nil:
				s.endAfterMessages(protocolError(err))
				return nil, delivered
			case n == 0:
				return b, delivered
			}
			b = b[n:]
			delivered++
			if !s.deliver(c.inbound, len(b)) {
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
	c := &s.core.consumer
	limit, h := s.core.engine.lim.MaxMessageSize, c.handler
	for off := 0; ; {
		p := b[off:]
		if len(p) < packet.HeaderSize {
			return s.lastPacket(p, delivered)
		}
		head := packet.ReadHeader(p)
		n, ok := head.Size(limit)
		if !ok || n > len(p) {
			return s.lastPacket(p, delivered)
		}
		if s.muted.Load() {
			s.inputDone = true
			return nil, delivered
		}
		fillPacket(&c.m, head, p[packet.HeaderSize:n:n])
		if off == 0 && n < len(b) {
			c.openLane(s)
		}
		off += n
		delivered++
		h.OnMessage(s, &c.m)
		if c.lane.broken.Load() {
			c.closeLane(false)
		}
		if s.readBlocks.Load() > 0 {
			s.unparsed = off < len(b)
			return b[off:], delivered
		}
	}
}

// lastPacket ends handlePackets at what isn't a whole packet.
func (s *Session) lastPacket(p []byte, delivered int) ([]byte, int) {
	c := &s.core.consumer
	if _, err := (framing.Packet{}).Decode(p, 0, s.core.engine.lim.MaxMessageSize, &c.m); err != nil {
		s.endAfterMessages(protocolError(err))
		return nil, delivered
	}
	return p, delivered
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

// frames runs OnMessage for every packet of a record. The loop has seen that
// they are whole and right.
func (c *consumer) frames(s *Session, p []byte) {
	c.cork(s)
	defer c.recover(s)
	limit, h := s.core.engine.lim.MaxMessageSize, c.handler
	for off := 0; off < len(p) && !s.muted.Load(); {
		b := p[off:]
		head := packet.ReadHeader(b)
		n, _ := head.Size(limit)
		fillPacket(&c.m, head, b[packet.HeaderSize:n:n])
		if off == 0 && n < len(p) {
			c.openLane(s)
		}
		off += n
		h.OnMessage(s, &c.m)
		if c.lane.broken.Load() {
			c.closeLane(false)
		}
	}
}

// fillPacket sets every field of m to those of the packet with header h. body is
// the bytes behind the header, which m aliases. Any larger, and it would not be
// inlined.
func fillPacket(m *framing.Message, h packet.Header, body []byte) {
	m.Payload = body
	m.Ext = nil
	m.Stream = 0
	m.ID = uint32(h.Head)
	m.Flags = framing.Flags(h.Tail)
	m.Type = framing.Type(h.Head >> 40)
	m.BizType = uint8(h.Head >> 32)
	m.Compression = framing.Compression(h.Head >> 48)
	m.Text = false
	m.Datagram = false
	if n := h.Tail >> 48; n != 0 {
		m.Ext, m.Payload = body[:n:n], body[n:]
	}
}
