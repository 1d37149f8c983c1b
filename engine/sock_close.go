package engine

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// inputEnds ends the session after its messages: the end of the input was read.
func (c *socketConn) inputEnds(reason error) {
	c.endBehindMessages(reason)
	c.input = inputEnded
	c.settle() // the session may have waited only for the peer's end
}

// stopInput makes c drop all input from now on; as is the new state.
func (c *socketConn) stopInput(as input) {
	c.input = max(c.input, as)
	c.backlog &^= dueTail | dueShutdown
	c.partialEnds = 0
	if !c.core().decoding { // else process drops the tail
		c.keep(nil)
	}
	c.noteInput(0)
}

// discardInput reads and drops the input of an ending session, to find the peer's end.
func (c *socketConn) discardInput() {
	if c.input == inputEnded {
		return
	}
	n, err := c.core().loop.Read(c.sock.FD, c.core().readBuf)
	switch {
	case n > 0:
		c.readAgain()
	case err == unix.EAGAIN:
	default:
		c.input = inputEnded
		c.settle()
	}
}

// peerEnd returns the reason of a session whose peer has ended its side.
func (i *inputTail) peerEnd() error {
	if i.tail != nil {
		return fmt.Errorf("%w in the middle of a message: %w", ErrPeerClosed, io.ErrUnexpectedEOF)
	}
	return ErrPeerClosed
}

// endBehindMessages ends the session in an orderly way after the messages received before
// have been handled. Later input is dropped. On the loop.
func (c *socketConn) endBehindMessages(reason error) {
	s := c.session
	if c.input >= inputDraining {
		return
	}
	c.stopInput(inputDraining)
	if c.stage != stageOpen {
		c.close(reason, false)
		return
	}
	s.out.mu.Lock()
	s.ending = reason
	s.out.mu.Unlock()
	c.post(dueEnd)
}

// drain implements connection: the session ends with ErrShutdown after the bytes that
// were read are decoded and their messages handled. On a paused session that waits for
// Resume.
func (c *socketConn) drain() {
	if c.input >= inputDraining {
		return
	}
	if c.stage != stageOpen { // it has no messages to wait for
		c.endBehindMessages(ErrShutdown)
		return
	}
	c.backlog |= dueShutdown
	c.resume()
}

// messagesHandled is called by the consumer at the end record: all messages before the
// end have been handled. If the peer has ended its side or the engine shuts down, the end
// waits for the Release of every Hold.
func (s *Session) messagesHandled() {
	defer s.conn.callbackLock().lock().unlock() // after the delivery that is under way
	s.out.mu.Lock()
	reason := s.ending
	hold := s.holds > 0 && s.phase <= phaseHeld && (errors.Is(reason, ErrPeerClosed) || errors.Is(reason, ErrShutdown))
	if hold {
		s.phase = phaseHeld
	}
	s.out.mu.Unlock()
	if !hold {
		s.conn.close(reason, false)
	}
}

// close implements connection.
func (w *socketWriter) close(reason error, abort bool) {
	s := w.session
	s.out.mu.Lock()
	if abort {
		w.failLocked(reason, closingAll)
	} else {
		w.closeLocked(reason)
	}
	s.out.mu.Unlock()
}

// closeLocked starts an orderly end: queued bytes are written, then the
// protocol's goodbye. The first reason stays. If the connection broke before, the
// handler now takes no more messages.
func (w *socketWriter) closeLocked(reason error) {
	s := w.session
	if s.phase >= phaseClosing {
		s.setReasonLocked(reason, closingAll)
		return
	}
	s.phase = phaseClosing
	s.setReasonLocked(reason, closingAll)
	w.goodbyeLocked(reason)
	w.kickLocked()
	_ = w.core().loop.Trigger(settleTask, w.conn())
}

// goodbyeLocked queues the protocol's close after everything else. If the codec panics,
// the connection ends without it.
func (w *socketWriter) goodbyeLocked(reason error) {
	s, codec := w.session, w.conn().codec
	if codec == nil {
		return
	}
	t := newBlock(maxControlBytes)
	func() {
		defer func() {
			if v := recover(); v != nil {
				p := newPanicError(v)
				_ = w.core().loop.Trigger(func(any) error { s.notePanic(p); return nil }, nil)
			}
		}()
		t.b = codec.Goodbye(t.b, reason)
	}()
	if len(t.b) == 0 {
		t.free()
		return
	}
	s.out.pending += len(t.b)
	s.out.queue.push(t)
}

// failLocked ends the session at once: queued bytes are dropped, and the loop closes the
// descriptor when no writer uses it. With closingSends the received messages are still
// handled.
func (w *socketWriter) failLocked(reason error, closing uint32) {
	s := w.session
	if s.phase == phaseEnded {
		return
	}
	s.phase = phaseEnded
	s.setReasonLocked(reason, closing)
	s.out.discard(reason)
	if w.outputState() == outputReplies {
		s.core.consumer.replies.overtaken.Store(true)
	}
	_ = w.core().loop.Trigger(settleTask, w.conn())
}

// breakLocked ends the output of a session after a failed write. The socket may still
// contain bytes that the peer sent before the connection failed: they are read to the
// end and handled before the session ends. To be called by the writer, whose output
// becomes outputBroken.
func (w *socketWriter) breakLocked(reason error) {
	s := w.session
	s.phase = max(s.phase, phaseDrained)
	s.setReasonLocked(reason, closingSends)
	s.out.discard(reason)
	if t := w.conn().tls; t != nil { // else it would count as congestion, which stops the reading
		s.out.pending -= freeChain(t.sealed.take())
	}
}

// setReasonLocked makes reason the reason why s ends, if there is none yet, and raises
// closing.
func (s *Session) setReasonLocked(reason error, closing uint32) {
	s.closing.Store(max(s.closing.Load(), closing))
	if s.out.refused == nil {
		s.out.refused = reason
		s.out.wakeWaiters()
	}
}

// settleTask calls settle on the session's loop.
func settleTask(arg any) error {
	c := arg.(*socketConn)
	c.settle()
	c.checked()
	return nil
}

// settle makes the next steps of an ending session: it sets the linger deadline, reads to
// the peer's end, and finally destroys the connection. While the worker handles the
// session's messages in place, it only lets the peer see an end that cannot wait. On the
// loop.
func (c *socketConn) settle() {
	if c.stage == stageGone {
		return
	}
	if c.backlog&handling != 0 {
		c.cutHandled()
		return
	}
	s, linger := c.session, c.session.out.limits.LingerTimeout
	s.out.mu.Lock()
	if s.phase == phaseDrained && (c.input == inputEnded || linger == 0) {
		s.phase = phaseEnded
	}
	phase, out := s.phase, c.outputState()
	s.out.mu.Unlock()
	switch {
	case phase == phaseEnded:
		if !out.writing() {
			c.destroy()
		}
	case phase < phaseClosing || c.awaits == deadlineLinger:
	case out == outputBroken:
		c.startDeadline(deadlineLinger, max(linger, 1))
		c.read()
	default:
		c.startDeadline(deadlineLinger, max(linger, 1))
		c.stopInput(inputDraining)
		c.discardInput()
	}
}

// cutHandled shuts the socket of an aborted session whose callback is running. The worker
// settles the rest.
func (c *socketConn) cutHandled() {
	s := c.session
	s.out.mu.Lock()
	cut := s.phase == phaseEnded && !c.outputState().writing()
	s.out.mu.Unlock()
	if cut {
		c.core().loop.ShutdownBoth(c.sock.FD)
	}
}

// destroy closes the descriptor and frees every buffer. On the loop.
func (c *socketConn) destroy() {
	s, k := c.session, c.core()
	c.stage = stageGone
	c.stopInput(inputDraining)
	c.disarm()
	k.loop.Unregister(&c.sock)
	k.loop.CloseFD(c.sock.FD)
	s.out.mu.Lock()
	s.out.discard(s.out.refused)
	opened := s.opened
	s.out.mu.Unlock()
	if c.tls != nil {
		c.tls.release()
	}
	s.endAwait()
	if opened {
		c.post(dueClosed)
	} else {
		neverOpened(c)
	}
}

// neverOpened forgets a session that was not open, so its handler has not seen it.
func neverOpened(c *socketConn) {
	s, e := c.session, c.core().engine
	switch {
	case c.refused: // counted already, and never admitted
		e.admission.endRefusal()
		s.core.forget(s)
		return
	case s.awaits():
		s.extras().left = true
	case s.listener != nil:
		e.admission.endHandshake()
	}
	s.cancelContext(s.Err()) // the codec may have asked for it
	e.countRefused(s.Err(), s.remote, s.listener)
	s.core.leave(s)
}

// stopIfClosed stops the input of a session that its handler, or a panic, has closed.
func (c *socketConn) stopIfClosed() {
	if c.session.closing.Load() == closingAll && c.input < inputDraining {
		c.stopInput(inputDraining)
	}
}
