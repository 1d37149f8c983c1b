package engine

import (
	"crypto/tls"
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/internal/reactor"
)

// socketConn is the connection of a session on a stream socket of the reactor, with or
// without TLS. Its bytes pass through sock_read.go, sock_decode.go, record_writer.go, the
// ring, core_consumer.go, the handler, reply.go, outbox.go and sock_write.go, in this
// order. Its states are in session_state.go.
type socketConn struct {
	socketWriter
	sock reactor.Conn

	// Owned by the loop. The fields that each event needs come first.
	codec Codec     // nil until the protocol is known; then read only
	tls   *tlsLayer // nil without TLS; set under out.mu too
	inputTail
	stage      stage
	input      input
	backlog    backlog
	kind       codecKind
	readQueued bool // queued in the loop for another read
	refused    bool // not admitted, by session.ending; it exists only to send the refusal, and is counted
	deadlines
	undelivered *largeMessage
}

// codecKind is the kind of a connection's codec, which selects the fast paths.
type codecKind uint8

const (
	codecStateful  codecKind = iota // encodes under the lock
	codecStateless                  // a StatelessCodec that says so
	codecPackets                    // packets: the specialised decoder is used
)

// newSocketSession returns a session on a socket, on the next core, not yet attached to
// its loop. l is nil if this side dialed.
func newSocketSession(e *Engine, l *Listener, fd int, remote netip.AddrPort) (*Session, *socketConn) {
	c := &socketConn{}
	c.session = &Session{core: e.nextCore(), remote: remote, listener: l}
	c.session.conn = c
	c.session.setLimits(e.limitsOf(l))
	c.sock = reactor.Conn{FD: fd, Handler: c}
	c.timer.Owner = c
	return c.session, c
}

// attachTask attaches an accepted connection to its loop, on the loop.
func attachTask(arg any) error {
	c := arg.(*socketConn)
	s, l := c.session, c.session.listener
	if !c.core().slots.add(c.core().index, s) {
		unattached(c, errNoSlot)
		return nil
	}
	c.stage = l.firstStage(c.stage)
	switch {
	case c.refused:
		c.startDeadline(deadlineRefusal, refusalTimeout)
	case c.stage == stageProxyHeader:
		c.startDeadline(deadlineHandshake, s.out.limits.HandshakeTimeout)
	default:
		c.startDeadline(deadlineSilence, c.core().engine.cfg.SniffTimeout)
	}
	if c.stage == stageUnknown && l.sole() != nil {
		c.adopt(l.sole())
	}
	c.register(ErrRefused)
	c.attached()
	return nil
}

// register adds the socket to the poller. If that fails, the connection ends with lost.
func (c *socketConn) register(lost error) {
	if err := c.core().loop.Register(&c.sock); err != nil {
		c.close(fmt.Errorf("%w: %w", lost, err), true)
	}
}

// attached completes attaching c: Shutdown may have visited the sessions already.
func (c *socketConn) attached() {
	if c.core().engine.draining.Load() {
		c.drain()
	}
	c.checked()
}

// unattached ends a connection that did not get a slot.
func unattached(c *socketConn, reason error) {
	s, e := c.session, c.core().engine
	c.stage = stageGone
	c.core().loop.CloseFD(c.sock.FD)
	e.countRefused(reason, s.remote, s.listener)
	if c.refused {
		e.admission.endRefusal()
	} else {
		e.refuse(nil, s.listener, s.remote.Addr())
	}
	e.sessionGone()
}

// firstStage returns the first stage of a connection of l, not before from.
func (l *Listener) firstStage(from stage) stage {
	switch {
	case from <= stageProxyHeader && l.proxy != nil:
		return stageProxyHeader
	case from <= stageTLSOrPlain && l.tls != nil:
		return stageTLSOrPlain
	}
	return stageUnknown
}

// setCodec sets c's codec. To be called before the session can send.
func (c *socketConn) setCodec(codec Codec) {
	c.codec = codec
	if _, ok := codec.(packets); ok {
		c.kind = codecPackets
	}
}

// askCodec asks the codec how the open session encodes messages. To be called before the
// session can send, without its lock: the codec may be third-party code.
func (c *socketConn) askCodec() {
	defer c.session.recoverPanic()
	if stateless, ok := c.codec.(StatelessCodec); ok && c.kind == codecStateful && stateless.StatelessAppend() {
		c.kind = codecStateless
	}
}

// localAddr implements connection.
func (c *socketConn) localAddr() netip.AddrPort {
	s := c.session
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.phase == phaseEnded {
		return netip.AddrPort{} // the descriptor may belong to another socket by now
	}
	a, _ := reactor.LocalAddr(c.sock.FD)
	return a
}

// remoteAddr implements connection.
func (*socketConn) remoteAddr() netip.AddrPort { return netip.AddrPort{} }

// callbackLock implements connection: only the consumer runs callbacks.
func (c *socketConn) callbackLock() *callbackLock { return nil }

// tlsState implements connection.
func (c *socketConn) tlsState() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	state := c.tls.conn.ConnectionState()
	return &state
}

// checked checks c's state in builds with the race detector. On the loop.
func (c *socketConn) checked() {
	if raceEnabled {
		checkState(c)
	}
}
