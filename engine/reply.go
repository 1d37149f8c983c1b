package engine

import (
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

// Reply answers m with payload: a Request by the Response of the same ID,
// anything else by a OneWay of the same ID; on the stream that m came on, as
// text if m was text, with m's biz type, without its extension header, flags and
// compression. In OnMessage it takes the callback's own m; later, a clone.
// Nobody else may use m during the call. Errors as for Send.
//
// A nil error says that the reply is queued, not that it is written: as with
// Send, what is queued is dropped if the connection breaks, or the session is aborted.
// In OnMessage, where several messages came at once, the reply is at first in the core's
// reply buffer. It joins the session's outbox when the last of these
// messages is handled, so a session that has broken or was aborted meanwhile drops
// it although Reply returned nil. OnClose then gets the reason.
func (s *Session) Reply(m *framing.Message, payload []byte) error {
	c := &s.core.consumer
	l := &c.lane
	if m != &c.m || l.session != s {
		return s.reply(m, payload, nil)
	}
	at := len(l.b)
	if end := at + packet.HeaderSize + len(payload); end <= l.packets && !l.broken.Load() {
		l.b = l.b[:end]
		packet.PutReply(l.b[at:], m.Type == framing.Request, m.BizType, m.ID, payload)
		l.messages++
		return nil
	}
	return s.reply(m, payload, l)
}

// reply is Reply through l, or where there is none, or it has no room, through
// the outbox.
func (s *Session) reply(m *framing.Message, payload []byte, l *lane) error {
	typ, flags, comp, ext, body := m.Type, m.Flags, m.Compression, m.Ext, m.Payload
	m.Type = framing.OneWay
	if typ == framing.Request {
		m.Type = framing.Response
	}
	m.Flags, m.Compression, m.Ext, m.Payload = 0, 0, nil, payload
	var err error
	if l == nil || !l.append(m) {
		err = s.SendMessage(m)
	}
	m.Type, m.Flags, m.Compression, m.Ext, m.Payload = typ, flags, comp, ext, body
	return err
}
