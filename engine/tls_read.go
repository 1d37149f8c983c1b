package engine

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"
)

// read is socketConn.read over TLS: it reads ciphertext into a buffer of the core, and
// decrypts it into the read buffer, after the tail. It reads one buffer at a time. On the
// loop.
func (t *tlsLayer) read() {
	c, more := t.sock, true
	handshaking := c.stage == stageTLSHandshake
	if handshaking && t.full() {
		c.backlog |= dueSocket // the handshake resumes the connection after it has read
		return
	}
	if !t.leftover {
		buf := c.core().cipher()
		n, err := c.core().loop.Read(c.sock.FD, buf)
		if n <= 0 {
			t.readFailed(err)
			return
		}
		c.received(n)
		more = n == len(buf)
		if handshaking {
			t.feed(buf[:n])
		} else {
			t.in = buf[:n]
		}
	}
	if !handshaking {
		t.decrypt()
	}
	switch {
	case !more && c.input != inputFinal && !t.leftover:
	case handshaking && t.full():
		c.backlog |= dueSocket
	default:
		c.readMore()
	}
}

// cipher returns the core's buffer for ciphertext, which is made at first use.
func (c *core) cipher() []byte {
	if c.cipherBuf == nil {
		c.cipherBuf = make([]byte, len(c.readBuf))
	}
	return c.cipherBuf
}

// readFailed handles a read that returned no bytes. An end of the stream without
// close_notify may be forged, so it has an error of its own.
func (t *tlsLayer) readFailed(err error) {
	c := t.sock
	switch {
	case err == unix.EAGAIN:
	case err != nil:
		c.readFailed(err)
	case c.stage == stageTLSHandshake:
		t.endInput() // earlier input may still complete the handshake
	default:
		c.inputEnds(fmt.Errorf("%w without close_notify: %w", ErrPeerClosed, io.ErrUnexpectedEOF))
	}
}

// decrypt decrypts and decodes the available ciphertext, until it is used up or the
// session may not continue. Then the session keeps the rest. On the loop.
func (t *tlsLayer) decrypt() {
	c := t.sock
	for held := false; !held; {
		buf, have := c.readTarget(c.session, c.codec)
		n, err := t.open(buf[have:])
		if n > 0 {
			if th := c.session.rates(); th != nil {
				th.fresh += n
			}
			c.process(buf[:have+n], int(c.seen))
		} else {
			c.keep(buf[:have])
		}
		if c.stage == stageGone {
			return
		}
		done := c.input >= inputDraining || err == errPipeEmpty
		held = !done && (c.backlog&^dueSocket != 0 || c.session.reading.Load() != 0 || c.core().stalled.Load())
		t.settleInput(done, held)
		if done {
			break
		}
		if err != nil && !held { // conn returns the error again after a hold
			t.settleInput(true, false)
			t.end(err)
			break
		}
	}
	t.flushAnswers()
}

// open reads plaintext until b is full or conn returns an error.
func (t *tlsLayer) open(b []byte) (n int, err error) {
	for n < len(b) && err == nil {
		var k int
		k, err = t.conn.Read(b[n:])
		n += k
	}
	return n, err
}

// end ends a session whose peer has sent close_notify or invalid TLS.
func (t *tlsLayer) end(err error) {
	c := t.sock
	if !errors.Is(err, io.EOF) {
		c.endBehindMessages(protocolError(fmt.Errorf("TLS: %w", err)))
		return
	}
	c.endBehindMessages(c.peerEnd())
}

// flushAnswers writes the records that crypto/tls has made while reading: an alert, the
// answer to a KeyUpdate. If the peer requests answers and does not read them, the limits
// of the outbox apply. On the loop.
func (t *tlsLayer) flushAnswers() {
	c, s := t.sock, t.sock.session
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if t.sealed.head == nil || s.phase >= phaseDrained {
		return
	}
	if s.out.pending > s.out.limits.OutboxLimit+maxSeal {
		c.failLocked(ErrSlowConsumer, closingAll)
		return
	}
	c.congestLocked()
	c.kickLocked()
}
