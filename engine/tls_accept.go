package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
)

// recordTypeHandshake and the major version are the first two bytes of TLS (RFC 8446
// section 5.1); any minor version may follow.
const (
	recordTypeHandshake = 0x16
	tlsMajorVersion     = 0x03
)

// alertInternalError is an unencrypted fatal alert (RFC 8446 section 6), which refuses a
// TLS client that is not admitted.
var alertInternalError = []byte{0x15, 0x03, 0x03, 0, 2, 2, 80}

var errPlainRefused = fmt.Errorf("%w: this listener requires TLS", ErrProtocol)

// matchTLS reports whether the first bytes of a connection are TLS.
func matchTLS(first []byte) Match {
	switch {
	case first[0] != recordTypeHandshake:
		return MatchNo
	case len(first) == 1:
		return MatchMore
	case first[1] != tlsMajorVersion:
		return MatchNo
	}
	return MatchYes
}

// detectTLS decodes stageTLSOrPlain: b is the start of TLS, or of a protocol without it.
// On the loop.
func (c *socketConn) detectTLS(b []byte) (rest []byte, more bool) {
	switch matchTLS(b) {
	case MatchYes:
		c.startTLS(b)
		return nil, false
	case MatchMore:
		c.firstBytes()
		return b, false
	}
	if c.session.listener.tls.cfg.Required {
		c.endBehindMessages(errPlainRefused)
		return nil, false
	}
	c.stage = stageUnknown
	return b, true
}

// startTLS begins the handshake, on a goroutine that ends with the handshake or the
// session. hello is the input so far.
func (c *socketConn) startTLS(hello []byte) {
	s := c.session
	if c.refused {
		_ = (*Control)(c).SendControl(alertInternalError)
		c.stopInput(inputDraining)
		c.close(s.ending, false)
		return
	}
	t := &tlsLayer{sock: c}
	memory.add(tlsMemory)
	t.more = sync.NewCond(&t.mu)
	t.conn = tls.Server((*tlsPipe)(t), s.listener.tls.current.Load())
	s.out.mu.Lock()
	c.tls = t
	s.out.mu.Unlock()
	c.stage = stageTLSHandshake
	c.firstBytes()
	t.feed(hello)
	s.core.engine.running.Add(1)
	go t.handshake()
}

// handshake is the goroutine of a handshake.
func (t *tlsLayer) handshake() {
	k := t.sock.core()
	defer k.engine.running.Done()
	defer func() {
		if v := recover(); v != nil { // a callback of TLSConfig.Config
			t.failure = fmt.Errorf("panic: %v", v)
			_ = k.loop.Trigger(handshakeDoneTask, t)
		}
	}()
	t.failure = t.conn.HandshakeContext(context.Background())
	_ = k.loop.Trigger(handshakeDoneTask, t)
}

// handshakeDoneTask continues a session whose handshake is over, on its loop.
func handshakeDoneTask(arg any) error {
	t := arg.(*tlsLayer)
	c, s := t.sock, t.sock.session
	if c.input >= inputDraining {
		return nil
	}
	defer c.checked()
	if err := t.failure; err != nil {
		if t.eof && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
			err = fmt.Errorf("%w in its TLS handshake: %w", ErrPeerClosed, io.ErrUnexpectedEOF)
		} else {
			err = fmt.Errorf("%w: %w", ErrTLSHandshake, err)
		}
		c.endBehindMessages(err)
		return nil
	}
	t.more = nil
	t.leftover = true // conn may have read more than the handshake
	s.out.mu.Lock()
	t.established = true
	s.out.mu.Unlock()
	c.stage = stageUnknown
	silence := s.core.engine.cfg.SniffTimeout
	switch {
	case len(s.listener.streams) == 1:
		c.adopt(s.listener.streams[0])
	case silence > 0: // else the handshake's deadline stays
		c.startDeadline(deadlineSilence, silence)
	}
	c.read()
	return nil
}
