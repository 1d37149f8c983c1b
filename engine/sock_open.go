package engine

// sniff finds the protocol of an accepted connection by its first bytes. It returns false
// if they are too few, or if the session ends.
func (c *socketConn) sniff(b []byte) bool {
	for _, p := range c.session.listener.streams {
		switch p.protocol.Match(b) {
		case MatchYes:
			c.adopt(p)
			return true
		case MatchMore: // later protocols must wait while this one is undecided
			if len(b) < minBlockSize {
				c.firstBytes()
				return false
			}
		case MatchNo:
		}
	}
	c.endBehindMessages(errUnknownProtocol)
	return false
}

// adopt makes p the protocol of c.
func (c *socketConn) adopt(p *streamProtocol) {
	s := c.session
	defer c.stopIfClosed()
	defer s.recoverPanic() // of a custom protocol
	transport := p.stats
	if c.tls != nil {
		transport = p.secure
	}
	if c.refused || s.listener.policy.enterProtocol(transport.name) {
		transport.active.Add(1)
		s.transport = transport
	} else if !c.refuse(errMaxOfProtocol, s.remote, true) {
		return
	}
	codec := p.protocol.Accept((*Control)(c))
	if codec == nil {
		panic("engine: StreamProtocol.Accept returned no codec")
	}
	h, ok := codec.(Handshaker)
	handshake := ok && h.NeedsHandshake()
	c.setCodec(codec)
	c.stage = stageHandshake
	switch {
	case c.refused:
		c.stopInput(inputDraining)
		c.close(s.ending, false) // Goodbye sends the refusal
	case handshake:
		c.firstBytes()
	case (*Control)(c).Authorize():
		c.establish()
	default:
		c.firstBytes()
	}
}

// establish opens the session.
func (c *socketConn) establish() {
	s := c.session
	if c.stage != stageHandshake || c.input >= inputDraining {
		return
	}
	c.askCodec()
	s.out.mu.Lock()
	if s.phase == phaseHandshake {
		s.phase, s.opened = phaseOpen, true
	}
	opened := s.opened
	s.out.mu.Unlock()
	if !opened { // its connection failed meanwhile
		c.stopInput(inputDraining)
		return
	}
	c.stage = stageOpen
	if s.listener != nil {
		s.core.engine.admission.endHandshake()
	}
	c.lastRead = s.core.deadline(0)
	c.startDeadline(deadlineNone, 0)
	c.keepAlive()
	s.transport.opened.Add(1)
	c.post(dueOpen)
}
