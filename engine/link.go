package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/framing"
)

// linkConn is the connection of a session whose socket is a Transport's. The
// Transport delivers messages through a Delivery; the Link sends.
type linkConn struct {
	link      Link
	session   *Session
	local     netip.AddrPort
	lock      *callbackLock                   // Inline; nil in Workers dispatch
	message   atomic.Pointer[framing.Message] // Inline: the message of the running callback, or nil; written under lock
	replies   *replyBuffer                    // Inline: for replies to message, or nil; under lock
	changes   atomic.Int32                    // calls of readingChanged not yet passed to the Link
	gone      atomic.Bool                     // Ended was called
	throttled *time.Timer                     // ends the throttle's pause; guarded by the throttle's mu
}

// openLink makes a session and its Port from a Transport's connection.
func openLink(h *Host, link Link, info OpenInfo) (*Port, error) {
	e := h.engine
	if h.listener == nil {
		info.Dialed = true
	}
	if err := h.admitLink(&info); err != nil {
		e.countRefused(err, info.Remote, h.listener)
		return nil, err
	}
	s := &Session{core: e.nextCore(), listener: h.listener, transport: e.stats.transport(h.name), remote: info.Remote}
	if info.Dialed {
		s.listener = nil
	}
	s.setLimits(e.limitsOf(s.listener))
	c := &linkConn{link: link, session: s, local: info.Local}
	s.conn = c
	err := setUp(s, h.setup)
	if err == nil {
		err = c.authorize(info.Context)
	}
	if info.Admitted {
		e.admission.endHandshake()
	}
	if err == nil {
		err = c.open()
	}
	if err != nil {
		h.release(&info)
		if !errors.Is(err, ErrClosed) {
			e.countRefused(err, info.Remote, h.listener)
		}
		return nil, err
	}
	return (*Port)(c), nil
}

// open makes c's session visible, and posts its open record.
func (c *linkConn) open() error {
	s := c.session
	k, e := s.core, s.core.engine
	if !e.beginSession() {
		return ErrShutdown
	}
	s.phase, s.opened = phaseOpen, true
	if k.inline {
		c.lock = newCallbackLock()
	}
	if !k.slots.add(k.index, s) {
		e.sessionGone()
		return errNoSlot
	}
	s.transport.active.Add(1)
	s.transport.opened.Add(1)
	if err := c.post(recordOpen); err != nil {
		k.forget(s)
		return err
	}
	if e.draining.Load() {
		c.drain() // Shutdown may have visited the sessions already
	}
	return nil
}

// authorize has the Authorizers decide about an accepted session, on the Transport's
// goroutine.
func (c *linkConn) authorize(parent context.Context) error {
	s := c.session
	if s.Dialed() || len(s.listener.policy.authorize) == 0 {
		return nil
	}
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := s.Limits().handshakeContext(parent)
	defer cancel()
	h := newHandshake(s)
	err := guardedAwait(ctx, func(ctx context.Context) error { return h.authorize(ctx) })
	s.noteIfPanic(err)
	return err
}

// post puts a record without messages into the ring. It waits for space, and fails only
// if the engine is closed.
func (c *linkConn) post(kind uint32) error {
	w := recordWriter{core: c.session.core, wait: waitRunning}
	return w.control(c.session, kind)
}

// send implements connection.
func (c *linkConn) send(m *framing.Message) error {
	return c.sent(c.sendable(), func() error { return c.link.Send(m) })
}

// sendContext implements connection.
func (c *linkConn) sendContext(ctx context.Context, m *framing.Message) error {
	return c.sent(c.sendable(), func() error { return c.link.SendContext(ctx, m) })
}

// sendable is nil while messages can be sent.
func (c *linkConn) sendable() error {
	if c.session.closing.Load() != closingNot {
		return c.session.Err()
	}
	return nil
}

// sent returns err if it is not nil; else it queues a message by calling queue, and
// starts to write it.
func (c *linkConn) sent(err error, queue func() error) error {
	if err != nil {
		return err
	}
	s := c.session
	if err := c.guarded(queue); err != nil {
		if err == ErrSlowConsumer {
			c.close(err, true)
		}
		return err
	}
	s.transport.messagesOut.Add(1)
	if !s.corked.Load() {
		c.flush()
	}
	return nil
}

// guarded calls a method of the Link, which may be third-party code. A panic ends the
// session and is returned.
func (c *linkConn) guarded(call func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := newPanicError(v)
			c.session.notePanic(p)
			c.close(p, true)
			err = p
		}
	}()
	return call()
}

// flush implements connection.
func (c *linkConn) flush() {
	_ = c.guarded(func() error { c.link.Flush(); return nil })
}

// replyBuffer implements connection.
func (c *linkConn) replyBuffer(m *framing.Message) *replyBuffer {
	if c.lock == nil || c.message.Load() != m {
		return nil
	}
	return c.replies
}

// close implements connection.
func (c *linkConn) close(reason error, abort bool) {
	s := c.session
	s.out.mu.Lock()
	s.phase = max(s.phase, phaseClosing)
	s.setReasonLocked(reason, closingAll)
	s.out.mu.Unlock()
	c.wakeDeliverers()
	defer func() {
		if v := recover(); v != nil { // a Link that panics here does not call Ended
			p := newPanicError(v)
			s.notePanic(p)
			go (*Port)(c).Ended(p)
		}
	}()
	c.link.Close(reason, abort)
}

// wakeDeliverers makes goroutines that wait to deliver a message of the session try
// again.
func (c *linkConn) wakeDeliverers() {
	c.session.core.wakeWaiters()
	if c.session.closing.Load() == closingAll {
		c.lock.open()
	}
}

// drain implements connection. It waits for ring space on a goroutine of its own.
func (c *linkConn) drain() { go c.endBehindMessages(ErrShutdown) }

// endBehindMessages ends the session in an orderly way after the messages delivered
// before have been handled. It may wait for ring space.
func (c *linkConn) endBehindMessages(reason error) {
	s := c.session
	s.out.mu.Lock()
	if s.ending == nil {
		s.ending = reason
	}
	s.out.mu.Unlock()
	_ = c.post(recordEnd)
}

// readingChanged implements connection. If several goroutines call it at the same time,
// the first one continues until it has passed the latest state to the Link, so a pause
// and a resume cannot pass each other.
func (c *linkConn) readingChanged() {
	if c.changes.Add(1) > 1 {
		return
	}
	for left := int32(1); left > 0; {
		changes := c.changes.Load()
		_ = c.guarded(func() error { c.link.PauseReading(c.session.reading.Load() != 0); return nil })
		left = c.changes.Add(-changes)
	}
}

// callbackLock implements connection.
func (c *linkConn) callbackLock() *callbackLock { return c.lock }

// localAddr implements connection.
func (c *linkConn) localAddr() netip.AddrPort { return c.local }

// remoteAddr implements connection.
func (c *linkConn) remoteAddr() netip.AddrPort { return c.link.RemoteAddr() }

// tlsState implements connection.
func (c *linkConn) tlsState() *tls.ConnectionState { return c.link.TLS() }

// callbackLock serializes the callbacks of a link's session in Inline dispatch: the
// Transport's goroutines run OnMessage themselves, and the loop runs OnOpen and OnClose.
// A nil callbackLock does nothing.
type callbackLock struct {
	mu    sync.Mutex
	ready chan struct{} // closed after OnOpen, or when the session ends before it
	once  sync.Once     // of closing ready
}

func newCallbackLock() *callbackLock { return &callbackLock{ready: make(chan struct{})} }

func (l *callbackLock) lock() *callbackLock {
	if l != nil {
		l.mu.Lock()
	}
	return l
}

func (l *callbackLock) unlock() {
	if l != nil {
		l.mu.Unlock()
	}
}

// open resumes the goroutines that wait to deliver the first message.
func (l *callbackLock) open() {
	if l != nil {
		l.once.Do(func() { close(l.ready) })
	}
}
