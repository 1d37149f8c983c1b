package engine

// close implements connection.
func (w *socketWriter) close(reason error, abort bool) {
	s := w.session
	s.out.mu.Lock()
	if abort {
		w.failLocked(reason)
	} else {
		w.closeLocked(reason)
	}
	s.out.mu.Unlock()
}

// closeLocked starts an orderly end: queued bytes are written, then the
// protocol's goodbye. The first reason stays.
func (w *socketWriter) closeLocked(reason error) {
	s := w.session
	if s.phase >= phaseClosing {
		return
	}
	s.phase = phaseClosing
	s.setReasonLocked(reason)
	w.goodbyeLocked(reason)
	w.kickLocked()
	_ = w.core().loop.Trigger(settleTask, w.conn())
}

// goodbyeLocked queues the protocol's last bytes behind everything else. If the
// codec panics, the connection ends without them.
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

// failLocked ends the session at once: queued bytes are dropped, and the
// descriptor is closed by the loop when no writer uses it.
func (w *socketWriter) failLocked(reason error) {
	s := w.session
	if s.phase == phaseEnded {
		return
	}
	s.phase = phaseEnded
	s.setReasonLocked(reason)
	s.out.discard(reason)
	if w.outputState() == outputReplies {
		s.core.consumer.replies.overtaken.Store(true)
	}
	_ = w.core().loop.Trigger(settleTask, w.conn())
}

// breakLocked notes that nothing can be written any more. What the peer sent
// before the connection broke may still lie in the socket: it is read to its
// end, and handled, before the session ends. By the writer, whose output becomes
// outputBroken.
func (w *socketWriter) breakLocked(reason error) {
	s := w.session
	s.phase = max(s.phase, phaseDrained)
	s.setReasonLocked(reason)
	s.out.discard(reason)
}

// settleTask moves an ending session on, on its loop.
func settleTask(arg any) error {
	c := arg.(*socketConn)
	c.settle()
	c.checked()
	return nil
}

// settle moves an ending session on: it sets the linger deadline, looks for the
// peer's end, and at last destroys the connection. On the loop.
func (c *socketConn) settle() {
	if c.stage == stageGone {
		return
	}
	s, linger := c.session, c.core().engine.cfg.LingerTimeout
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

// destroy closes the descriptor and gives everything back. On the loop.
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
	if opened {
		c.post(dueClosed)
	} else {
		neverOpened(c)
	}
}

// neverOpened forgets a session that its handler has not seen.
func neverOpened(c *socketConn) {
	s, e := c.session, c.core().engine
	switch {
	case c.refused: // counted already, and never admitted
		e.admission.endRefusal()
		s.core.forget(s)
		return
	case s.listener != nil:
		e.admission.endHandshake()
	}
	e.countRefused(s.Err(), s.remote, s.listener)
	s.core.leave(s)
}
