package engine

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/framing"
)

// authorization is the state of Control.Await and Control.Authorize. Owned by the loop.
type authorization struct {
	await     awaiting              // of the codec's own function
	authorize awaiting              // of the Authorizers
	running   *awaiting             // the one of them whose function runs; nil if none
	left      bool                  // the session is gone; the running function ends its handshake
	stop      context.CancelFunc    // cancels the context of the running function
	first     chan *framing.Message // for the next message; nil unless Handshake.First waits
}

type awaiting uint8

const (
	awaitingNot awaiting = iota
	awaitingRuns
	awaitingDone
)

// Await runs f on a goroutine of its own, for work of a handshake that may block. It
// returns false until f has returned; meanwhile nothing is decoded. Then, if f returned
// nil, Decode is called again with the same bytes, and Await returns true without calling
// its f. An error of f ends the session with that reason. So Decode calls Await, and if it
// returns false, consumes nothing:
//
//	if !c.Await(check) {
//		return 0, false, nil
//	}
//
// A connection has one Await, beside Authorize. ctx ends when the connection does, and after
// Limits.HandshakeTimeout. The session counts against Config.MaxHandshakes until f has
// returned. It is to be called before Establish. For a connection that is refused already
// it does nothing.
func (c *Control) Await(f func(ctx context.Context) error) bool {
	return c.await(&c.session.extras().await, f)
}

// await is Await with its state. Of two functions, the second waits for the first.
func (c *Control) await(state *awaiting, f func(ctx context.Context) error) bool {
	s := c.session
	x := s.extras()
	if *state == awaitingDone || x.running != nil || c.refused {
		return *state == awaitingDone && x.running == nil
	}
	*state, x.running = awaitingRuns, state
	ctx, cancel := s.Limits().handshakeContext(context.Background())
	x.stop = cancel
	s.blockReading(readAwaiting)
	a := &awaited{conn: c.conn(), state: state}
	e := s.core.engine
	e.running.Add(1) // never from 0: the loop counts
	go func() {
		defer e.running.Done()
		a.err = guardedAwait(ctx, f)
		cancel()
		_ = s.core.loop.Trigger(awaitedTask, a)
	}()
	return false
}

// handshakeContext returns a context that ends with parent, and after HandshakeTimeout.
func (l *Limits) handshakeContext(parent context.Context) (context.Context, context.CancelFunc) {
	if l.HandshakeTimeout > 0 {
		return context.WithTimeout(parent, l.HandshakeTimeout)
	}
	return context.WithCancel(parent)
}

// guardedAwait calls f, and returns its panic as an error. After the end of ctx any result
// is too late.
func guardedAwait(ctx context.Context, f func(ctx context.Context) error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		} else if ctx.Err() != nil {
			err = ErrHandshakeTimeout
		}
	}()
	return f(ctx)
}

// awaited is the result of Await's function.
type awaited struct {
	conn  *socketConn
	state *awaiting
	err   error
}

// awaitedTask continues a session whose Await has ended, on its loop.
func awaitedTask(arg any) error {
	a := arg.(*awaited)
	c := a.conn
	s := c.session
	x := s.extras()
	defer c.stopIfClosed()
	defer s.recoverPanic() // of a custom codec
	*a.state, x.running, x.first = awaitingDone, nil, nil
	s.noteIfPanic(a.err)
	switch h, ok := c.codec.(Handshaker); {
	case c.stage == stageGone:
		if x.left {
			s.core.engine.admission.endHandshake()
		}
		return nil
	case a.err != nil:
		c.endBehindMessages(a.err)
	case (!ok || !h.NeedsHandshake()) && (*Control)(c).Authorize():
		c.establish()
	}
	if x.running == nil { // else Authorize has begun
		s.unblockReading(readAwaiting)
	}
	c.checked()
	return nil
}

// awaits reports whether a function of Await runs.
func (s *Session) awaits() bool {
	x := s.extra.Load()
	return x != nil && x.running != nil
}

// endAwait cancels a running Await of a session that has ended.
func (s *Session) endAwait() {
	if s.awaits() {
		s.extras().stop()
	}
}

// Authorize has the Authorizers of the engine and of the listener decide about the
// session, by Await. It returns true if they admit it, and if there are none. A codec with
// a handshake calls it when the peer's part of the handshake is decoded, before it
// answers; for other codecs the engine does. What the codec has stored by SetValue, the
// Authorizers find by Handshake.Value.
func (c *Control) Authorize() bool {
	s := c.session
	if s.awaits() {
		return false
	}
	if s.Dialed() || len(s.listener.policy.authorize) == 0 {
		return true
	}
	x := s.extras()
	if x.authorize == awaitingDone {
		return true
	}
	h := newHandshake(s)
	h.conn = c.conn()
	return c.await(&x.authorize, h.authorize)
}

// SetValue attaches v to the session until OnOpen has returned, for example the request of
// a handshake: Authorizers and OnOpen find it under key, by Handshake.Value and
// Session.Value. Keys are as those of Session.SetValue.
func (c *Control) SetValue(key, v any) { c.session.setValue(value{key, v, true}) }

// awaitedFirst is a call of Handshake.First.
type awaitedFirst struct {
	conn  *socketConn
	first chan *framing.Message
}

// awaitFirstTask makes a connection that waits for its Authorizer decode one message.
func awaitFirstTask(arg any) error {
	a := arg.(*awaitedFirst)
	c := a.conn
	x := c.session.extras()
	if c.stage == stageHandshake && x.running == &x.authorize {
		x.first = a.first
		c.session.unblockReading(readAwaiting)
	}
	return nil
}

// firstAwaited returns the channel for a message that Handshake.First waits for, or nil.
func (s *Session) firstAwaited() chan *framing.Message {
	if x := s.extra.Load(); x != nil {
		return x.first
	}
	return nil
}

// decodeFirst decodes one message for Handshake.First.
func (c *socketConn) decodeFirst(b []byte, seen int, first chan *framing.Message) (rest []byte, more bool) {
	s, k := c.session, c.session.core
	n, ok, err := c.codec.Decode((*Control)(c), b, seen, k.inbound)
	switch {
	case err != nil:
		c.endBehindMessages(protocolError(err))
	case n == 0 && len(b) > s.Limits().MaxMessageSize+maxFrameOverhead:
		c.endBehindMessages(fmt.Errorf("%w: in the first message", ErrTooLarge))
	case ok:
		s.extras().first = nil
		s.blockReading(readAwaiting)
		first <- k.inbound.Clone()
	}
	return b[n:], n > 0 && err == nil
}
