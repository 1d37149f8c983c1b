package client

import (
	"iter"

	"github.com/millrace/millrace/framing"
)

// Kind says what an Event tells.
type Kind uint8

const (
	Message Kind = 1 // the peer sent a OneWay or a Request
	Closed  Kind = 2 // the session ended; always the last event
)

// Event is something that happened on a client's session. Responses are no
// events: they end the Request that they answer.
type Event struct {
	Kind    Kind
	Message *framing.Message // of Message: it owns its bytes, and is the receiver's to keep
	Err     error            // of Closed: why; never nil then
}

// Events returns the sequence of what the peer sends, in the order it came,
// from the first message after connecting on: messages, then one Closed. It
// blocks between events, ends after Closed, and may be left and taken up again
// at any time. Several goroutines may range over it; then each event goes to
// one of them.
//
// Nothing is dropped. Messages wait in a buffer of MaxEventBytes (plus what had
// already been received when that was reached); then the client stops reading
// until half of it was taken, and the peer feels its transport's flow control.
// Answers to requests stand in the same line behind those messages: a client
// that neither ranges over Events nor has WithHandler can therefore wait for an
// answer that is not read. Where messages are of no interest, WithHandler
// (engine.Callbacks{}) discards them; in the body of a loop over Events, give
// requests a deadline.
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
