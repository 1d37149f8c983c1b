package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
)

// recordTypeHandshake and the major version are how TLS starts (RFC 8446 section
// 5.1; the minor version is anything there).
const (
	recordTypeHandshake = 0x16
	tlsMajorVersion     = 0x03
)

// alertInternalError is an unencrypted fatal alert (RFC 8446 section 6): what a
// TLS client is told when there is no place for it.
var alertInternalError = []byte{0x15, 0x03, 0x03, 0, 2, 2, 80}

var errPlainRefused = fmt.Errorf("%w: this listener requires TLS", ErrProtocol)

// mayFallBack reports whether a silent connection may be taken as a packet
// session.
func (s *Session) mayFallBack() bool {
	if s.tls != nil {
		return !s.tls.handshaking
	}
	return s.listener.tls == nil || !s.listener.tls.cfg.Required
}

// matchTLS judges the first bytes of a connection.
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

// layerTLS looks whether b is the start of TLS on a session that could speak it.
// done says that nothing else is to be made of b; rest is what it didn't use. On
// the loop.
func (s *Session) layerTLS(b []byte) (rest []byte, done bool) {
	if s.tls != nil || s.listener.tls == nil {
		return b, false
	}
	switch matchTLS(b) {
	case MatchYes:
		s.startTLS(b)
		return nil, true
	case MatchMore:
		s.startSniffing()
		return b, true
	}
	if s.listener.tls.cfg.Required {
		s.endAfterMessages(errPlainRefused)
		return nil, true
	}
	return b, false
}

// startTLS begins the handshake, on a goroutine of its own that ends with it or
// with the session; hello is what came so far.
func (s *Session) startTLS(hello []byte) {
	if s.refusal != nil {
		_ = s.SendControl(alertInternalError)
		s.inputDone = true
		s.end(s.refusal, false)
		return
	}
	t := &tlsLayer{session: s, handshaking: true}
	t.more = sync.NewCond(&t.mu)
	t.conn = tls.Server((*tlsPipe)(t), s.listener.tls.current.Load())
	s.out.mu.Lock()
	s.tls = t
	s.out.mu.Unlock()
	s.startPhase(s.core.engine.cfg.HandshakeTimeout)
	t.feed(hello)
	s.core.engine.running.Add(1)
	go t.handshake()
}

// handshake is the goroutine.
func (t *tlsLayer) handshake() {
	s := t.session
	defer s.core.engine.running.Done()
	defer func() {
		if v := recover(); v != nil { // a callback of TLSConfig.Config
			t.failure = fmt.Errorf("panic: %v", v)
			_ = s.core.loop.Trigger(handshakeDoneTask, t)
		}
	}()
	t.failure = t.conn.HandshakeContext(context.Background())
	_ = s.core.loop.Trigger(handshakeDoneTask, t)
}

// handshakeDoneTask goes on with a session whose handshake is over, on its loop.
func handshakeDoneTask(arg any) error {
	t := arg.(*tlsLayer)
	s := t.session
	if s.destroyed || s.inputDone {
		return nil
	}
	if err := t.failure; err != nil {
		if t.eof && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
			s.endAfterMessages(fmt.Errorf("%w in its TLS handshake: %w", ErrPeerClosed, io.ErrUnexpectedEOF))
		} else {
			s.endAfterMessages(fmt.Errorf("%w: %w", ErrTLSHandshake, err))
		}
		return nil
	}
	t.handshaking = false
	t.more = nil
	t.leftover = true // conn may have read on behind the handshake
	s.out.mu.Lock()
	t.established = true
	s.out.mu.Unlock()
	if len(s.listener.streams) == 1 {
		s.adopt(s.listener.streams[0])
	} else {
		s.startPhase(s.core.engine.cfg.SniffTimeout)
	}
	s.read()
	return nil
}

// TLS describes the session's TLS connection; nil for a session without it. On
// a Transport's session it is nil as well.
func (s *Session) TLS() *tls.ConnectionState {
	if s.tls == nil {
		return nil
	}
	state := s.tls.conn.ConnectionState()
	return &state
}
