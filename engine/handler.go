package engine

import "github.com/millrace/millrace/framing"

// Message is one message; see framing.Message for its fields. A Message that a callback
// gets is borrowed: Clone makes a copy to keep.
type Message = framing.Message

// Handler is the application. One value serves every session of every transport.
//
// A session's callbacks never run at the same time and never out of order: OnOpen, then
// OnMessage for each message in the order of arrival, then OnClose once. Callbacks of
// different sessions run at the same time on different cores. With Dispatch Workers (the
// default) they run on the worker thread of the session's core, with Inline on its event
// loop (for a Transport's sessions see Inline). A callback that blocks delays the
// callbacks of that core's other sessions, and with Inline also its reading and writing:
// work that blocks for long belongs in a goroutine of its own. A panic closes only its own
// session, with a PanicError.
type Handler interface {
	// OnOpen is called when the session can carry messages: after the protocol's
	// handshake and before the session's first message.
	OnOpen(s *Session)

	// OnMessage is called for each message. m and its bytes belong to the engine and are
	// valid until OnMessage returns; m.Clone makes a copy to keep.
	OnMessage(s *Session, m *Message)

	// OnClose is called once, after the session's last message, when its connection has
	// ended. reason is never nil; see the Err variables.
	OnClose(s *Session, reason error)
}

// HandlerFunc is a Handler that only handles messages.
type HandlerFunc func(s *Session, m *Message)

// OnOpen does nothing.
func (f HandlerFunc) OnOpen(*Session) {}

// OnMessage calls f.
func (f HandlerFunc) OnMessage(s *Session, m *Message) { f(s, m) }

// OnClose does nothing.
func (f HandlerFunc) OnClose(*Session, error) {}

// HandlerFuncs is a Handler made of functions; nil ones do nothing.
type HandlerFuncs struct {
	Open    func(s *Session)
	Message func(s *Session, m *Message)
	Close   func(s *Session, reason error)
}

// OnOpen calls c.Open.
func (c HandlerFuncs) OnOpen(s *Session) {
	if c.Open != nil {
		c.Open(s)
	}
}

// OnMessage calls c.Message.
func (c HandlerFuncs) OnMessage(s *Session, m *Message) {
	if c.Message != nil {
		c.Message(s, m)
	}
}

// OnClose calls c.Close.
func (c HandlerFuncs) OnClose(s *Session, reason error) {
	if c.Close != nil {
		c.Close(s, reason)
	}
}
