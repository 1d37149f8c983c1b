package engine

// maxSeal is how many bytes of plaintext are encrypted at a time. Encrypted bytes cannot
// be dropped, and control frames cannot pass them, so it is only a few writes.
const maxSeal = 128 << 10

// takeLocked detaches ciphertext to write; if there is none, it encrypts some. To be called
// by the writer with session.out.mu held, which it releases while it encrypts.
func (t *tlsLayer) takeLocked() *block {
	s := t.sock.session
	for t.sealed.head == nil && t.established && s.phase < phaseDrained && t.sealLocked() {
	}
	return t.sealed.take()
}

// sealLocked encrypts queued plaintext. After all of it, at the session's end, it sends
// close_notify. It reports whether it did anything.
func (t *tlsLayer) sealLocked() bool {
	s := t.sock.session
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
	// Write counts the ciphertext; counting the plaintext too would exceed the limits.
	s.out.pending -= n
	s.out.mu.Unlock()
	err := t.seal(chain, n)
	s.out.mu.Lock()
	s.out.pending += n
	if err == nil {
		s.out.queue.pushFront(s.out.written(chain, n))
		return true
	}
	// An alert was sent: no bytes may follow it.
	s.out.pending -= freeChain(chain)
	if s.phase < phaseClosing {
		t.sock.closeLocked(protocolError(err))
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
