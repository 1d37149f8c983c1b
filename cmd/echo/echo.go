package main

import (
	"log/slog"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// answerFlags are the flags that would change the meaning of an answer: that a
// request failed, or that more answers follow.
const answerFlags = framing.FlagFailed | framing.FlagMore

// echo is the server's handler, on every transport.
type echo struct{ logger *slog.Logger }

var _ engine.Handler = echo{}

// OnOpen does nothing: the peer sends first.
func (echo) OnOpen(*engine.Session) {}

// OnMessage answers m with itself: a Request with its Response, a OneWay with a
// OneWay. Everything else is returned unchanged, on the same stream: ID, payload,
// biz type, extension header, compression, flags, text, datagram.
//
// It changes m in place, which saves an allocation: the handler owns m until it
// returns.
func (echo) OnMessage(s *engine.Session, m *framing.Message) {
	if m.Type == framing.Request && m.Flags == 0 && len(m.Ext) == 0 && m.Compression == framing.CompressionNone && !m.Datagram {
		s.Reply(m, m.Payload) // m has no field that Reply omits
		return
	}
	switch {
	case m.Type == framing.Response:
		return // a Response: this server sends no Requests
	case m.Type == framing.Request:
		m.Type = framing.Response
	case m.Flags&framing.FlagCancel != 0:
		return // the cancelled Request was answered on arrival
	}
	m.Flags &^= answerFlags
	// An error means that the session is ending, and OnClose gets the reason. Every
	// framing can encode its own messages.
	s.SendMessage(m)
}

// OnClose logs the end of the session at level debug.
func (e echo) OnClose(s *engine.Session, reason error) {
	e.logger.Debug("session ended", "remote", s.RemoteAddr(), "transport", s.Transport(), "reason", reason)
}
