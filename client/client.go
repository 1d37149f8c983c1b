package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// ErrCompressed: the response's payload is compressed, but Request returns only
// plain bytes. Use RequestMessage.
var ErrCompressed = errors.New("client: the answer is compressed")

// ErrNoRequests: a client with WithPlainMessages has no requests, because such
// messages carry no IDs.
var ErrNoRequests = errors.New("client: plain WebSocket messages carry no requests")

// Client is a connection to one server. Dial makes one; the zero Client is not
// usable. Its methods may be called from any goroutine. It does not reconnect after
// its session has ended.
//
// All clients of a process with equal Limits share an engine with one event loop,
// which starts with the first and stops with the last of them. It does not change
// GOMAXPROCS.
type Client struct {
	hub     *hub
	session *engine.Session
	inbox   *inbox
	done    chan struct{} // closed when the session has ended
	gone    chan struct{} // closed when the client has left its hub

	// Set before Dial returns, then read only.
	handler     engine.Handler // of WithHandler
	subprotocol string
	plain       bool

	mu     sync.Mutex // guards the fields below
	dialed bool       // Dial succeeded: the client owns one use of the hub
	reason error      // the session's close reason; nil before its end
}

func newClient(h *hub, s *engine.Session) *Client {
	return &Client{
		hub:     h,
		session: s,
		inbox:   newInbox(s, h.maxEventBytes),
		done:    make(chan struct{}),
		gone:    make(chan struct{}),
	}
}

// end is the session's OnClose. It runs on an event loop.
func (c *Client) end(reason error) {
	c.mu.Lock()
	c.reason = reason // before OnClose of WithHandler, whose panic joins it
	dialed := c.dialed
	c.mu.Unlock()
	c.inbox.end(reason)
	close(c.done)
	if dialed {
		c.leave()
	}
}

// own transfers the use of the hub from Dial to the client. The session may have
// ended already.
func (c *Client) own() {
	c.mu.Lock()
	c.dialed = true
	ended := c.reason != nil
	c.mu.Unlock()
	if ended {
		c.leave()
	}
}

// leave releases the hub, and closes its engine after the last client. It does not
// block: c.gone is closed when it is done.
func (c *Client) leave() {
	if !c.hub.leave() {
		close(c.gone)
		return
	}
	go func() {
		c.hub.engine.Close()
		close(c.gone)
	}()
}

// Session returns the client's engine session, for its addresses, values and other
// methods.
func (c *Client) Session() *engine.Session { return c.session }

// Subprotocol returns the WebSocket subprotocol that the server selected of those of
// WithSubprotocols. It is "" if there is none.
func (c *Client) Subprotocol() string { return c.subprotocol }

// Send queues a copy of payload as a one-way message. It does not wait until it is
// written. Errors are those of Session.Send. If the server reads too slowly and
// Limits.OutboxLimit bytes are queued, the session ends with engine.ErrSlowConsumer.
func (c *Client) Send(payload []byte) error {
	c.inbox.send()
	return c.session.Send(payload)
}

// SendMessage queues a copy of m, with all its fields, as Send does.
func (c *Client) SendMessage(m *framing.Message) error {
	c.inbox.send()
	return c.session.SendMessage(m)
}

// Reply answers m, a message of Events or of a handler, with a copy of payload: a
// Request by its Response, any other message by a OneWay with the same ID. No other
// goroutine may use m during the call. It returns without waiting, with the errors
// of Send.
func (c *Client) Reply(m *framing.Message, payload []byte) error { return c.session.Reply(m, payload) }

// Request sends payload as a Request and waits for its Response. It returns the
// Response's payload, which belongs to the caller. Responses may arrive in any
// order.
//
// It blocks until the Response arrives, ctx ends, or the session ends (at once,
// with its close reason). It may be called from any goroutine, and from the
// callbacks of WithHandler. Do not call it from a callback of an engine's Handler:
// that would block a whole core. Once Events or Receive was called, unread messages
// may delay the Response; see Events.
//
// Errors: ErrCompressed, ErrNoRequests, and those of mux.Mux.Request.
func (c *Client) Request(ctx context.Context, payload []byte) ([]byte, error) {
	m, err := c.RequestMessage(ctx, &framing.Message{Payload: payload})
	if err != nil {
		return nil, err
	}
	if m.Compression != framing.CompressionNone {
		return nil, fmt.Errorf("%w (%d)", ErrCompressed, m.Compression)
	}
	return m.Payload, nil
}

// RequestMessage is Request with a whole message, and returns the whole Response.
// See mux.Mux.RequestMessage for the fields of m that are sent.
func (c *Client) RequestMessage(ctx context.Context, m *framing.Message) (*framing.Message, error) {
	if c.plain {
		return nil, ErrNoRequests
	}
	c.inbox.send()
	return c.hub.mux.RequestMessage(ctx, c.session, m)
}

// Done returns a channel that is closed when the session has ended. Err then
// returns the reason.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err returns nil while the client can send, and otherwise the reason why it can't.
// After the end that is the session's close reason.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != nil {
		return c.reason
	}
	return c.session.Err()
}

// Close writes the queued messages, sends the transport's close, and blocks until
// the connection has ended. That takes at most about Limits.LingerTimeout.
// Messages that were received before can still be read from Events; later ones are
// dropped. Pending requests fail with engine.ErrClosed. The last client of the
// process also waits until the shared engine has stopped. Close may be called from
// WithHandler's callbacks, but not from those of an engine's Handler. Another call
// only waits. Close always returns nil; use Err for the reason.
func (c *Client) Close() error {
	_ = c.session.Close()
	<-c.done
	<-c.gone
	return nil
}
