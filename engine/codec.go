package engine

// Establish tells the engine that the protocol's handshake is done: OnOpen
// follows, then messages. For a Codec, from Decode only, once.
func (s *Session) Establish() {
	if s.opened || s.inputDone {
		return
	}
	s.out.mu.Lock()
	ok := s.phase == phaseHandshake
	if ok {
		s.phase = phaseOpen
	}
	s.out.mu.Unlock()
	if !ok {
		s.inputDone = true // it failed meanwhile: the handler never hears of it
		return
	}
	s.opened = true
	if s.listener != nil {
		s.core.engine.admission.endHandshake()
	}
	s.lastRead = s.core.deadline(0)
	s.startPhase(0)
	s.transport.opened.Add(1)
	s.owe(owedOpen)
}

// SendControl queues a whole control frame, copied, ahead of queued messages.
// It works before Establish too, which is how a handshake answers. For a Codec.
// Errors: ErrWouldBlock when 4 KiB of control frames wait, else as Send.
func (s *Session) SendControl(frame []byte) error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if err := s.out.appendControl(frame); err != nil {
		return err
	}
	s.kickLocked()
	return nil
}

// sniff finds the protocol of an accepted session by its first bytes; false
// when it is not known yet, or the session ends. The protocols are asked in the
// order of Listen's arguments: one that needs more bytes to tell keeps those
// behind it waiting, up to minBlockSize bytes. On the loop.
func (s *Session) sniff(b []byte) bool {
	for _, p := range s.listener.streams {
		switch p.protocol.Match(b) {
		case MatchYes:
			s.adopt(p)
			return !s.inputDone
		case MatchMore:
			if len(b) < minBlockSize {
				s.startSniffing()
				return false
			}
		case MatchNo:
		}
	}
	s.endAfterMessages(errUnknownProtocol)
	return false
}

// adopt gives s the protocol that it speaks. On the loop.
func (s *Session) adopt(p *streamProtocol) {
	defer s.recoverDecode()
	s.transport = p.stats
	if s.tls != nil {
		s.transport = p.secure
	}
	s.transport.active.Add(1)
	s.setCodec(p.protocol.Accept(s))
	if s.codec == nil {
		panic("StreamProtocol.Accept returned no codec")
	}
	if s.refusal != nil {
		s.inputDone = true
		s.end(s.refusal, false)
		return
	}
	if h, ok := s.codec.(Handshaker); ok && h.NeedsHandshake() {
		s.startPhase(s.core.engine.cfg.HandshakeTimeout)
		return
	}
	s.Establish()
}

// setCodec gives s its codec. Before the session can send.
func (s *Session) setCodec(c Codec) {
	s.codec = s.unwrap(c)
	_, s.packets = s.codec.(packets)
	_, s.stateless = s.codec.(StatelessCodec)
}

// startSniffing starts the handshake deadline with a connection's first bytes;
// more of them don't move it.
func (s *Session) startSniffing() {
	if s.refusal == nil && !s.sniffing {
		s.sniffing = true
		s.startPhase(s.core.engine.cfg.HandshakeTimeout)
	}
}
