package client

import (
	"iter"

	"github.com/millrace/millrace/framing"
)

// Kind is the kind of an Event.
type Kind uint8

const (
	EventMessage Kind = 1 // the peer sent a OneWay or a Request
	EventClosed  Kind = 2 // the session ended; always the last event
)

// Event is a message from the peer, or the end of the session. Responses are no
// events: they end the Request that they answer.
type Event struct {
	Kind    Kind
	Message *framing.Message // of EventMessage: it owns its bytes, and the receiver may keep it
	Err     error            // of EventClosed: the close reason, never nil
}

// Events returns the sequence of the peer's messages in the order of their arrival,
// from the first one after connecting, and then one EventClosed. It blocks until the
// next event and ends after EventClosed. A loop over it may be left, and another one
// continues. Several goroutines may range over it; then each event goes to one of
// them.
//
// Nothing is dropped. Messages wait in a buffer of MaxEventBytes, plus the messages
// that were already received when it became full. Then the client stops reading
// until half of the buffer is free, and the transport's flow control stops the
// peer. Responses arrive in order after those messages. So without a loop over
// Events, and without WithHandler, a request can wait for a Response that is never
// read. To discard messages, use WithHandler(engine.HandlerFuncs{}). In the body of a
// loop over Events, use requests with a deadline.
//
// A client with WithHandler has no events: its sequence is empty.
func (c *Client) Events() iter.Seq[Event] {
	return func(yield func(Event) bool) {
		if c.handler != nil {
			return
		}
		for {
			ev, ok := c.inbox.next()
			if !ok || !yield(ev) {
				return
			}
		}
	}
}
