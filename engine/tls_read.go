package engine

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/reactor"
)

// readTLS is read for a session with TLS: ciphertext goes into a buffer of the
// core's, and from there, decrypted, behind the tail in the read buffer. It
// takes one buffer a turn. On the loop.
func (s *Session) readTLS() {
	t, again := s.tls, true
	if t.handshaking && t.full() {
		s.unread = true // the handshake asks for more
		return
	}
	if !t.leftover {
		buf := s.core.cipher()
		n, err := reactor.Read(s.conn.FD, buf)
		if n <= 0 {
			s.readTLSFailed(err)
			return
		}
		s.lastRead = s.core.tick
		s.core.stats.bytesIn.Add(uint64(n))
		again = n == len(buf)
		if t.handshaking {
			again = t.feed(buf[:n]) && again
		} else {
			t.in = buf[:n]
		}
	}
	if !t.handshaking {
		s.decrypt()
	}
	if again || s.toTheEnd || t.leftover {
		s.unread = true
		if !s.stalled && !s.destroyed && (!t.handshaking || !t.full()) {
			s.core.loop.Again((*socket)(s))
		}
	}
}

// cipher is the core's buffer for ciphertext, made when it is first needed.
func (c *core) cipher() []byte {
	if c.cipherBuf == nil {
		c.cipherBuf = make([]byte, len(c.readBuf))
	}
	return c.cipherBuf
}

// readTLSFailed handles a read that brought no bytes. An end of the stream
// without close_notify may have been forged, so it is told apart.
func (s *Session) readTLSFailed(err error) {
	switch {
	case err == unix.EAGAIN:
	case err != nil:
		s.readFailed(err)
	case s.tls.handshaking:
		s.tls.endInput() // what came before it may still finish the handshake
	default:
		s.eof = true
		s.endAfterMessages(fmt.Errorf("%w without close_notify: %w", ErrPeerClosed, io.ErrUnexpectedEOF))
		_ = settleTask(s)
	}
}

// decrypt decodes what the ciphertext at hand holds, until there is no more or
// the session may not go on; what is left then stays with the session.
func (s *Session) decrypt() {
	t := s.tls
	for {
		buf, have := s.readTarget()
		n, err := t.open(buf[have:])
		if n > 0 {
			if s.throttle != nil {
				s.throttle.fresh += n
			}
			s.process(buf[:have+n], s.seen)
		} else {
			s.keep(buf[:have])
		}
		if s.destroyed {
			return
		}
		if s.inputDone {
			t.leftover = false
			t.dropHeld()
			break
		}
		if err == errPipeEmpty {
			t.leftover = false
			t.dropHeld()
			break
		}
		if s.unparsed || s.stalled || s.readBlocks.Load() > 0 || s.core.stalled.Load() {
			t.leftover = true // an error comes again
			t.hold()
			break
		}
		if err != nil {
			t.leftover = false
			t.dropHeld()
			s.endTLS(err)
			break
		}
	}
	s.flushAnswers()
}

// open reads plaintext until b is full or there is no more.
func (t *tlsLayer) open(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = t.conn.Read(b[n:])
		n += k
	}
	return n, err
}

// endTLS ends a session whose peer said close_notify, or something wrong.
func (s *Session) endTLS(err error) {
	switch {
	case !errors.Is(err, io.EOF):
		s.endAfterMessages(protocolError(fmt.Errorf("TLS: %w", err)))
	case s.tail != nil:
		s.endAfterMessages(fmt.Errorf("%w in the middle of a message: %w", ErrPeerClosed, io.ErrUnexpectedEOF))
	default:
		s.endAfterMessages(ErrPeerClosed)
	}
}

// flushAnswers writes what reading made crypto/tls say: an alert, the answer to a
// KeyUpdate. A peer that asks for answers and doesn't read them is held like
// any other. On the loop.
func (s *Session) flushAnswers() {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.tls.sealed == nil || s.phase >= phaseDrained {
		return
	}
	switch {
	case s.out.pending > s.out.limits.OutboxLimit+maxSeal:
		s.failLocked(ErrSlowConsumer)
		return
	case s.out.pending > s.out.limits.OutboxSoftMark && !s.congested && !s.Dialed():
		s.congested = true
		s.blockRead()
	}
	s.kickLocked()
}
