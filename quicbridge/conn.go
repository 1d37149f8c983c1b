package quicbridge

import (
	"context"
	"crypto/tls"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/quic-go/quic-go"
)

// conn is a QUIC connection as the Link of a session.
//
// Goroutines of an accepted millrace/1 connection: run refuses unidirectional
// streams, one goroutine accepts the peer's streams, one receives datagrams, one for
// each stream reads it, and one for each stream writes it while writing has to wait.
// The accepting goroutine itself reads the streams that arrive finished, see
// acceptStreams. quic-go has two of its own.
type conn struct {
	// Set before the session is opened.
	quic      *quic.Conn
	config    *Config
	limits    *engine.Limits
	host      *engine.Host
	compat    bool // a msgtrans peer: unidirectional streams, no datagrams
	dialed    bool
	outlet    *stream // sends to a msgtrans peer; else nil
	datagrams datagramQueue
	intake    intake
	begun     time.Time // the origin of all times of the connection

	// Set by run, under mu. The methods of Link, and the reader of a stream that
	// this side opens, may run earlier.
	port   *engine.Port
	inline bool // the session's messages are handled by the readers

	queued    atomic.Int64 // bytes in all outboxes, and taken from them but not written; see recount
	stale     atomic.Bool  // an outbox may have dropped messages that queued still counts
	inHand    atomic.Int64 // bytes that writers have taken from their outboxes and not written
	lastWrite atomic.Int64 // when a writer last finished a write, in nanoseconds after begun
	paused    atomic.Bool  // written under mu
	waits     atomic.Int32 // readers between beginWait and endWait

	delivering atomic.Int32  // readers that are delivering
	delivered  atomic.Uint64 // deliveries that have ended

	work sync.WaitGroup

	mu       sync.Mutex // guards the fields below, and those of the streams that are marked so
	wake     sync.Cond  // port, paused, phase, or a stream's writing has changed
	phase    phase
	reason   error              // why this side ends the connection
	all      []*stream          // those that both sides haven't finished
	byHandle map[uint64]*stream // the same without those not opened yet; nil while there are few
	first    *stream            // the stream for messages without one; nil if there is none
	dirty    []*stream          // sent to since the last Flush
	farewell bool               // the peer is closing and wants no replies to OneWays
	graceful []*stream          // finished by the peer, waiting for a reply to a OneWay; oldest first
	flushed  chan struct{}      // made by Close, closed when all is written
	drained  chan struct{}      // made by Close, closed when the peer has finished too
}

// phase is the state of a connection. It only increases.
type phase uint8

const (
	phaseOpen    phase = iota
	phaseClosing       // no more messages are queued; queued ones are written
	phaseEnded         // the QUIC connection is gone, or about to be
)

// newConn returns the link of an established connection.
func newConn(q *quic.Conn, host *engine.Host, config *Config, limits *engine.Limits) *conn {
	c := &conn{quic: q, host: host, config: config, limits: limits, begun: time.Now()}
	c.wake.L = &c.mu
	c.intake.init(c)
	state := q.ConnectionState()
	c.compat = state.TLS.NegotiatedProtocol == ""
	c.datagrams.init(c, state.SupportsDatagrams.Remote && !c.compat)
	if c.compat {
		c.outlet = c.newStream(nil)
		c.first = c.outlet
	}
	return c
}

// TLS implements engine.Link.
func (c *conn) TLS() *tls.ConnectionState {
	state := c.quic.ConnectionState().TLS
	return &state
}

// RemoteAddr implements engine.Link.
func (c *conn) RemoteAddr() netip.AddrPort { return addrPort(c.quic.RemoteAddr()) }

// run serves the connection. It blocks until the connection has ended and its
// goroutines have returned. Then it calls release, if not nil, and reports the end
// to the engine.
func (c *conn) run(port *engine.Port, release func()) {
	c.mu.Lock()
	c.port = port
	c.inline = port.Session().Engine().Config().Dispatch == engine.Inline
	c.wake.Broadcast()
	c.mu.Unlock()
	// This goroutine waits for nothing but the connection's end, so that it detects
	// that at once.
	var err error
	if c.compat {
		c.work.Go(c.acceptPackets)
		err = c.refuseStreams()
	} else {
		c.work.Go(c.receiveDatagrams)
		c.work.Go(c.acceptStreams)
		err = c.refuseUniStreams()
	}
	// quic-go ends the streams first, and then cancels the connection's context.
	<-c.quic.Context().Done()
	reason := c.ended(err)
	c.intake.close()
	c.work.Wait()
	if release != nil {
		release()
	}
	port.Ended(reason)
}

// ended marks the connection as gone, wakes all goroutines that wait for it, and
// returns the reason.
func (c *conn) ended(cause error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.reason == nil {
		c.reason = endReason(cause)
	}
	c.phase = phaseEnded
	for _, st := range c.all {
		st.out.Discard(c.reason)
		st.stopGrace()
	}
	c.wake.Broadcast()
	return c.reason
}

// spawn runs f on a goroutine that run waits for. Under c.mu, not when ended.
func (c *conn) spawn(f func()) { c.work.Go(f) }

// fail closes the connection at once, because of an error of the peer. It blocks
// until quic-go is done, so it must not be called from a callback, or with c.mu
// held.
func (c *conn) fail(reason error) {
	c.mu.Lock()
	if c.reason == nil {
		c.reason = reason
	}
	c.mu.Unlock()
	c.quit(reason)
}

// quit closes the QUIC connection with the code for reason.
func (c *conn) quit(reason error) {
	code := closeCode(reason)
	_ = c.quic.CloseWithError(code, codeText[code]) // it never fails
}

// failLater is fail for a caller that may not block.
func (c *conn) failLater(reason error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseEnded {
		c.spawn(func() { c.fail(reason) })
	}
}

// PauseReading implements engine.Link.
func (c *conn) PauseReading(paused bool) {
	c.mu.Lock()
	c.paused.Store(paused)
	c.wake.Broadcast()
	c.mu.Unlock()
}

// awaitPort blocks until run has set the port.
func (c *conn) awaitPort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.port == nil {
		c.wake.Wait()
	}
}

// awaitResume blocks while reading is paused on an open connection.
func (c *conn) awaitResume() {
	if !c.paused.Load() {
		return
	}
	c.beginWait()
	defer c.endWait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.paused.Load() && c.phase == phaseOpen {
		c.wake.Wait()
	}
}

// acceptStreams accepts the peer's bidirectional streams until the connection ends.
// It reads each of them itself, which is cheaper than starting a goroutine, until the
// reader may have to wait; then another goroutine continues to accept (see
// stream.mayWait).
func (c *conn) acceptStreams() {
	for accepting := true; accepting; {
		q, err := c.quic.AcceptStream(context.Background())
		if err != nil {
			return
		}
		c.mu.Lock()
		st := c.newStream(q)
		if c.first == nil && !c.dialed {
			c.first = st
		}
		c.mu.Unlock()
		st.in.accepting = true
		st.read()
		accepting = st.in.accepting
	}
}
