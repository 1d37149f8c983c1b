package client

import (
	"context"
	"errors"
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

var errHasHandler = errors.New("client: WithHandler receives the messages of this client")

// Events returns the sequence of the peer's messages in the order of their arrival,
// from the first one after connecting, and then one EventClosed. Ranging over it
// blocks until the next event and ends after EventClosed. A loop over it may be
// left, and another one continues. Several goroutines may range over it; then each
// event goes to one of them.
//
// From the first call of Events or Receive on, nothing is dropped. Messages wait in
// a buffer of Limits.MaxEventBytes, plus the messages that were already received
// when it became full. Then the client stops reading until half of the buffer is
// free, and the transport's flow control stops the peer. Responses arrive in order
// after those messages. So a program that stops receiving can wait for ever for a
// Response. In the body of a loop over Events, use requests with a
// deadline.
//
// A client that sends, and has called neither Events nor Receive, never waits like
// this: it drops the messages that do not fit into the buffer, and counts them (see
// DroppedEvents). To lose none of the messages that a first request causes, call
// Events before it; the loop may begin later.
//
// A client with WithHandler has no events: its sequence is empty.
func (c *Client) Events() iter.Seq[Event] {
	if c.handler != nil {
		return func(func(Event) bool) {}
	}
	c.inbox.read()
	return func(yield func(Event) bool) {
		for {
			ev, ok := c.inbox.next()
			if !ok || !yield(ev) {
				return
			}
		}
	}
}

// Receive returns the peer's next message, as Events does. The message owns its
// bytes, and the caller may keep it. Receive blocks until there is a message, the
// session has ended and all its messages were received, or ctx ends. It may be
// called from any goroutine, but not from a callback of an engine's Handler.
//
// Errors: the close reason, which every later call returns again, and ctx's cause. A
// client with WithHandler always returns an error.
func (c *Client) Receive(ctx context.Context) (*framing.Message, error) {
	if c.handler != nil {
		return nil, errHasHandler
	}
	c.inbox.read()
	return c.inbox.receive(ctx)
}

// DroppedEvents returns how many messages of the peer were dropped because
// Limits.MaxEventBytes were waiting, and neither Events nor Receive had been called.
// It may be called from any goroutine.
func (c *Client) DroppedEvents() uint64 { return c.inbox.dropped.Load() }
