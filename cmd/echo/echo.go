package main

import (
	"log/slog"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// answerFlags are the flags that would make an answer say something else than
// the message it repeats: that a request failed, that more answers follow.
const answerFlags = framing.FlagFailed | framing.FlagMore

// echo is the server's handler, on every transport.
type echo struct{ logger *slog.Logger }

var _ engine.Handler = echo{}

// OnOpen does nothing: the peer speaks first.
func (echo) OnOpen(*engine.Session) {}

// OnMessage answers m with itself: a Request with its Response, a OneWay with a
// OneWay. Everything else goes back as it came, to the stream it came from: ID,
// payload, biz type, extension header, compression, flags, text, datagram.
//
// It changes m in place, which saves an allocation: m is the handler's until it
// returns.
func (echo) OnMessage(s *engine.Session, m *framing.Message) {
	if m.Type == framing.Request && m.Flags == 0 && len(m.Ext) == 0 && m.Compression == framing.CompressionNone && !m.Datagram {
		s.Reply(m, m.Payload) // there is nothing that it would leave out
		return
	}
	switch {
	case m.Type == framing.Response:
		return // it answers a Request, and this server makes none
	case m.Type == framing.Request:
		m.Type = framing.Response
	case m.Flags&framing.FlagCancel != 0:
		return // what it cancels was answered when it came
	}
	m.Flags &^= answerFlags
	// An error means that the session is ending, and OnClose will say why; or
	// that the framing can't carry its own message back, which none does.
	s.SendMessage(m)
}

// OnClose tells of the session's end, for those who look for it.
func (e echo) OnClose(s *engine.Session, reason error) {
	e.logger.Debug("session ended", "remote", s.RemoteAddr(), "transport", s.Transport(), "reason", reason)
}
