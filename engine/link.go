package engine

// openLink makes a session of a Transport's connection.
func (e *Engine) openLink(h *Host, link Link, info OpenInfo) (*Session, error) {
	if info.Admitted {
		e.admission.endHandshake()
	} else if err := e.admit(info.Remote.Addr()); err != nil {
		e.countRefused(err, info.Remote, h.listener)
		return nil, err
	}
	if !e.beginSession() {
		e.release(info.Remote.Addr())
		return nil, ErrShutdown
	}
	c := e.nextCore()
	s := &Session{
		core: c, listener: h.listener, link: &attachedLink{Link: link, local: info.Local},
		transport: e.stats.transport(h.name),
		remote:    info.Remote,
		opened:    true, phase: phaseOpen, throttle: newThrottle(&e.cfg),
	}
	if info.Dialed {
		s.listener = nil
	}
	if c.inline {
		s.link.turn = newTurn()
	}
	s.out.Init(&e.lim)
	if !c.slots.add(c.index, s) {
		e.release(info.Remote.Addr())
		e.sessionGone()
		e.countRefused(errNoSlot, info.Remote, h.listener)
		return nil, errNoSlot
	}
	s.transport.active.Add(1)
	s.transport.opened.Add(1)
	if err := s.postWait(recordOpen); err != nil {
		c.forget(s)
		return nil, err
	}
	if e.draining.Load() {
		go s.endLinkAfterMessages(ErrShutdown) // Shutdown may have passed by already
	}
	return s, nil
}

// postWait posts a control record, waiting for room in the ring.
func (s *Session) postWait(kind uint32) error {
	claim, err := s.core.claim(recordIDSize, s.core.engine.aliveOrClosed)
	if err != nil {
		return err
	}
	s.core.commitControl(claim, s, kind)
	return nil
}

// alive is nil as long as messages make sense.
func (s *Session) alive() error {
	if s.closing.Load() {
		return s.Err()
	}
	return nil
}

// PeerClosed tells, for a Link, that the peer will send no more but may still
// read: after the messages delivered so far are handled and every Hold is
// released, the engine calls Link.Close with ErrPeerClosed. It may wait for
// room in the ring.
func (s *Session) PeerClosed() { s.endLinkAfterMessages(ErrPeerClosed) }

func (s *Session) endLinkAfterMessages(reason error) {
	s.out.mu.Lock()
	if s.ending == nil {
		s.ending = reason
	}
	s.out.mu.Unlock()
	_ = s.postWait(recordEnd) // it fails only when the engine is closed
}

// Ended tells, for a Link, that the connection is gone and why. OnClose follows
// after the messages delivered before. Once for each session that Host.Open
// returned; it may wait for room in the ring.
func (s *Session) Ended(reason error) {
	if s.link.gone.Swap(true) {
		return
	}
	s.out.mu.Lock()
	s.closing.Store(true) // nothing can be sent; what was delivered is handled
	if s.out.refused == nil {
		s.out.refused = reason
	}
	s.out.mu.Unlock()
	s.stopThrottle()
	if err := s.postWait(recordClosed); err != nil {
		s.core.forget(s)
	}
}
