package engine

import "github.com/millrace/millrace/framing"

// Reply answers m with payload: a Request by the Response of the same ID,
// anything else by a OneWay of the same ID; on the stream that m came on, as
// text if m was text, with m's biz type, without its extension header, flags and
// compression. In OnMessage it takes the callback's own m; later, a clone.
// Nobody else may use m during the call. Errors as for Send.
func (s *Session) Reply(m *framing.Message, payload []byte) error {
	c := &s.core.consumer
	if l := &c.lane; m == &c.m && l.session == s {
		n := len(l.b)
		if end := n + framing.PacketHeaderSize + len(payload); !l.broken.Load() && end <= l.limit && len(payload) <= l.max {
			l.b = l.b[:end]
			framing.PutPacketReply(l.b[n:end], m, payload)
			l.messages++
			return nil
		}
		c.closeLane() // it is broken or full, or payload is too large
	}
	return s.reply(m, payload)
}

// reply is Reply through the outbox.
func (s *Session) reply(m *framing.Message, payload []byte) error {
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
