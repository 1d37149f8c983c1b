package client

import (
	"errors"
	"runtime/debug"

	"github.com/millrace/millrace/engine"
)

// handle runs the callbacks of WithHandler, from OnOpen until after OnClose. After
// a panic the queued messages are dropped, and OnClose gets the panic as its
// reason.
func (c *Client) handle() {
	ok := c.guard(func() { c.handler.OnOpen(c.session) })
	for {
		ev, more := c.inbox.next()
		switch {
		case !more:
			return
		case ev.Kind == EventClosed:
			c.guard(func() { c.handler.OnClose(c.session, ev.Err) })
		case ok:
			ok = c.guard(func() { c.handler.OnMessage(c.session, ev.Message) })
		}
	}
}

// guard calls f. If f panics, guard aborts the session for that reason and returns
// false. If the session has ended already (f is OnClose), the reason is joined to
// Err.
func (c *Client) guard(f func()) (ok bool) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked(&engine.PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	f()
	return true
}

func (c *Client) panicked(err *engine.PanicError) {
	c.session.Abort(err)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason != nil && !errors.Is(c.reason, engine.ErrHandlerPanic) {
		c.reason = errors.Join(c.reason, err)
	}
}
