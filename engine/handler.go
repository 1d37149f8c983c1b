package engine

import "github.com/millrace/millrace/framing"

// Handler is the application. One value serves every session of every transport.
//
// A session's callbacks never run at the same time and never out of order: OnOpen, then
// OnMessage for each message in the order of arrival, then OnClose once. Callbacks of
// different sessions run at the same time on different cores. With Dispatch Workers (the
// default) they run on the worker thread of the session's core, with Inline on its event
// loop (for a Transport's sessions see Inline). A callback that blocks delays the
// callbacks of that core's other sessions, and with Inline also its reading and writing:
// work that blocks for long belongs in a goroutine of its own. A panic closes only its own session, with a PanicError.
type Handler interface {
	// OnOpen is called when the session can carry messages: after the protocol's
	// handshake and before the session's first message.
	OnOpen(s *Session)

	// OnMessage is called for each message. m and its bytes belong to the engine and are
	// valid until OnMessage returns; m.Clone makes a copy to keep.
	OnMessage(s *Session, m *framing.Message)

	// OnClose is called once, after the session's last message, when its connection has
	// ended. reason is never nil; see the Err variables.
	OnClose(s *Session, reason error)
}

// OnMessage is a Handler that only handles messages.
type OnMessage func(s *Session, m *framing.Message)

// OnOpen does nothing.
func (f OnMessage) OnOpen(*Session) {}

// OnMessage calls f.
func (f OnMessage) OnMessage(s *Session, m *framing.Message) { f(s, m) }

// OnClose does nothing.
func (f OnMessage) OnClose(*Session, error) {}

// Callbacks is a Handler made of functions; nil ones do nothing.
type Callbacks struct {
	Open    func(s *Session)
	Message func(s *Session, m *framing.Message)
	Close   func(s *Session, reason error)
}

// OnOpen calls c.Open.
func (c Callbacks) OnOpen(s *Session) {
	if c.Open != nil {
		c.Open(s)
	}
}

// OnMessage calls c.Message.
func (c Callbacks) OnMessage(s *Session, m *framing.Message) {
	if c.Message != nil {
		c.Message(s, m)
	}
}

// OnClose calls c.Close.
func (c Callbacks) OnClose(s *Session, reason error) {
	if c.Close != nil {
		c.Close(s, reason)
	}
}
