package client

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// ErrCompressed: the answer's payload is compressed, and Request returns plain
// bytes. RequestMessage takes it.
var ErrCompressed = errors.New("client: the answer is compressed")

// Client is a connection to one server. Its methods may be called from any
// goroutine; Dial makes one, and it doesn't reconnect: after its session has
// ended it stays ended.
//
// All clients of a process share one engine, which starts with the first and
// stops with the last of them. While it runs it raises GOMAXPROCS as Engine.Start
// says; beside another engine of the same size that adds nothing.
type Client struct {
	hub     *hub
	session *engine.Session
	inbox   *inbox
	handler engine.Handler // of WithHandler; set before Dial returns, then read only
	done    chan struct{}  // closed when the session has ended
	gone    chan struct{}  // closed when the client has left its hub

	mu     sync.Mutex // guards what follows
	dialed bool       // Dial succeeded: the client owns one use of the hub
	reason error      // why the session ended; nil before
}

func newClient(h *hub, s *engine.Session) *Client {
	return &Client{
		hub:     h,
		session: s,
		inbox:   newInbox(s),
		done:    make(chan struct{}),
		gone:    make(chan struct{}),
	}
}

// end is the session's OnClose. It runs on an event loop.
func (c *Client) end(reason error) {
	c.inbox.end(reason)
	c.mu.Lock()
	c.reason = reason
	dialed := c.dialed
	c.mu.Unlock()
	close(c.done)
	if dialed {
		c.leave()
	}
}

// own makes the client the owner of its Dial's use of the hub. The session may
// have ended before.
func (c *Client) own() {
	c.mu.Lock()
	c.dialed = true
	ended := c.reason != nil
	c.mu.Unlock()
	if ended {
		c.leave()
	}
}

// leave gives up the hub, and closes it behind the last client. It doesn't
// block: c.gone tells when it is done.
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

// Session is the engine's session behind the client, for its addresses, values
// and other methods.
func (c *Client) Session() *engine.Session { return c.session }

// Send queues payload, copied, as a one-way message and returns without waiting
// for it to be written. Errors are those of Session.Send. A server that reads too
// slowly ends the session with engine.ErrSlowConsumer once 16 MiB wait.
func (c *Client) Send(payload []byte) error { return c.session.Send(payload) }

// SendMessage queues m, copied, as Send does, with all that it says.
func (c *Client) SendMessage(m *framing.Message) error { return c.session.SendMessage(m) }

// Reply answers m, a message of Events or of a handler, with payload, copied: a
// Request by its Response, anything else by a OneWay of the same ID. Nobody else
// may use m during the call. It returns as Send does.
func (c *Client) Reply(m *framing.Message, payload []byte) error { return c.session.Reply(m, payload) }

// Request sends payload, copied, as a Request and waits for the payload of its
// Response, which belongs to the caller. Answers may come in any order.
//
// It blocks until the Response comes, ctx ends, or the session ends (at once,
// with its close reason). It may be called from any goroutine, also from the
// callbacks of WithHandler; a callback of some engine's Handler would hold up its
// whole core meanwhile. See Events for what unread messages mean to it.
//
// Errors: ErrCompressed, and those of mux.Mux.Request.
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

// RequestMessage is Request with a whole message, and for a whole answer. See
// mux.Mux.RequestMessage for what of m travels.
func (c *Client) RequestMessage(ctx context.Context, m *framing.Message) (*framing.Message, error) {
	return c.hub.mux.RequestMessage(ctx, c.session, m)
}

// Done is closed when the session has ended; Err then says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is nil while the client can send, and else why it can't; after the end,
// the session's close reason.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != nil {
		return c.reason
	}
	return c.session.Err()
}

// Close writes what was queued, says goodbye, and returns when the connection
// has ended, which takes at most about engine.DefaultLingerTimeout. Messages that
// came before can still be read from Events; later ones are dropped. Requests that
// still wait end with engine.ErrClosed. The last client of the process waits for
// the shared engine to stop too. It may be called from WithHandler's callbacks,
// but not from those of an engine's Handler. Closing again only waits. It returns
// nil: why the session ended is Err's to say.
func (c *Client) Close() error {
	c.session.Close()
	<-c.done
	<-c.gone
	return nil
}
