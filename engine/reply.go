package engine

import "github.com/millrace/millrace/framing"

// Reply answers m with payload: a Request by the Response of the same ID,
// anything else by a OneWay of the same ID; on the stream that m came on, as
// text if m was text, with m's biz type, without its extension header, flags and
// compression. In OnMessage it takes the callback's own m; later, a clone.
// Nobody else may use m during the call. Errors as for Send.
func (s *Session) Reply(m *framing.Message, payload []byte) error {
	if s.packets && s.replyPacket(m, payload) {
		return nil
	}
	typ, flags, comp, ext, body := m.Type, m.Flags, m.Compression, m.Ext, m.Payload
	m.Type = framing.OneWay
	if typ == framing.Request {
		m.Type = framing.Response
	}
	m.Flags, m.Compression, m.Ext, m.Payload = 0, 0, nil, payload
	err := s.SendMessage(m)
	m.Type, m.Flags, m.Compression, m.Ext, m.Payload = typ, flags, comp, ext, body
	return err
}

// replyPacket is Reply for what happens nearly always on a packet session: it
// is open, and the reply fits the outbox's last block and stays below the soft
// mark. Else it does nothing and reports false.
func (s *Session) replyPacket(m *framing.Message, payload []byte) bool {
	o := &s.out
	size := framing.PacketHeaderSize + len(payload)
	o.mu.Lock()
	t := o.tail
	if t == nil || t.room() < size || s.phase != phaseOpen ||
		len(payload) > o.limits.MaxMessageSize || o.pending+size > o.limits.OutboxSoftMark {
		o.mu.Unlock()
		return false
	}
	t.b = framing.AppendPacketReply(t.b, m, payload)
	o.pending += size
	o.messages++
	t.messages++
	if !s.corked.Load() || o.pending >= flushBytes {
		s.kickLocked()
	}
	o.mu.Unlock()
	return true
}
