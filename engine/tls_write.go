package engine

// maxSeal is how much plaintext is sealed at a time. What is sealed can't be
// overtaken by control frames nor dropped, so it is not more than a few writes.
const maxSeal = 128 << 10

// takeLocked detaches what is to be written next: with TLS, ciphertext, sealed
// now if there is none. With s.out.mu held, which it releases while it seals;
// by the writer.
func (s *Session) takeLocked() *block {
	t := s.tls
	if t == nil {
		return s.out.take()
	}
	for t.sealed == nil && t.established && s.phase < phaseDrained && s.sealLocked() {
	}
	chain := t.sealed
	t.sealed, t.sealedTail = nil, nil
	return chain
}

// putBackLocked returns the unwritten rest of takeLocked's chain.
func (s *Session) putBackLocked(chain *block) {
	t := s.tls
	if t == nil || chain == nil {
		s.out.putBack(chain)
		return
	}
	last := chain
	for last.next != nil {
		last = last.next
	}
	last.next = t.sealed
	t.sealed = chain
	if t.sealedTail == nil {
		t.sealedTail = last
	}
}

// sealLocked turns queued plaintext into ciphertext, and at the session's end,
// behind all of it, says close_notify. It reports whether it did anything.
func (s *Session) sealLocked() bool {
	t := s.tls
	chain := s.out.take()
	if chain == nil {
		if s.phase != phaseClosing || t.notified {
			return false
		}
		t.notified = true
		s.out.mu.Unlock()
		_ = t.conn.CloseWrite() // it fails only when an alert was sent already
		s.out.mu.Lock()
		return true
	}
	n := 0
	for b := chain; b != nil && n < maxSeal; b = b.next {
		n += min(len(b.b)-b.off, maxSeal-n)
	}
	// The ciphertext counts from Write on; both together would look like too much.
	s.out.pending -= n
	s.out.mu.Unlock()
	err := t.seal(chain, n)
	s.out.mu.Lock()
	s.out.pending += n
	if err == nil {
		s.out.putBack(s.out.written(chain, n))
		return true
	}
	// An alert was sent: nothing may follow it.
	for chain != nil {
		chain = s.out.written(chain, len(chain.b)-chain.off)
	}
	if s.phase < phaseClosing {
		s.endLocked(protocolError(err), false)
	}
	return true
}

// seal encrypts the first n bytes of chain.
func (t *tlsLayer) seal(chain *block, n int) error {
	for b := chain; n > 0; b = b.next {
		k := min(len(b.b)-b.off, n)
		if _, err := t.conn.Write(b.b[b.off : b.off+k]); err != nil {
			return err
		}
		n -= k
	}
	return nil
}
