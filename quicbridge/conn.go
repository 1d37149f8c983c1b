package quicbridge

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// conn is a QUIC connection as the Link of a session.
//
// Goroutines of an accepted millrace/1 connection: run accepts the peer's
// streams; one watches for unidirectional streams, one receives datagrams, one
// reads each stream; one writes each stream while it has bytes. quic-go has two
// of its own.
type conn struct {
	// Set before the session is opened.
	quic      *quic.Conn
	config    *Config
	limits    *engine.Limits
	compat    bool // a msgtrans peer: unidirectional streams, no datagrams
	dialed    bool
	outlet    *stream // sends to a msgtrans peer; else nil
	datagrams datagramQueue
	begun     time.Time // what times are counted from

	// Set by run, under mu; the methods of Link, and a stream that this side
	// opens, may run earlier.
	session *engine.Session

	queued    atomic.Int64 // bytes in all outboxes
	lastWrite atomic.Int64 // nanoseconds after begun when a writer was last done
	paused    atomic.Bool  // written under mu
	work      sync.WaitGroup

	mu       sync.Mutex // guards what follows, and the bookkeeping of the streams
	wake     sync.Cond  // session, paused, phase, or a stream's writing has changed
	phase    phase
	reason   error              // why this side ends the connection
	streams  map[uint64]*stream // by handle: those that are open
	all      []*stream          // streams, and those not opened yet
	first    *stream            // where messages without a stream go; nil if there is none
	dirty    []*stream          // sent to since the last Flush
	farewell bool               // the peer is leaving and wants no replies to OneWays
	graceful []*stream          // finished by the peer, waiting for a reply to a OneWay; oldest first
	flushed  chan struct{}      // made by Close, closed when all is written
	drained  chan struct{}      // made by Close, closed when the peer has finished too
}

// phase is where a connection stands. It only grows.
type phase uint8

const (
	phaseOpen    phase = iota
	phaseClosing       // no more messages out; what is queued is written
	phaseEnded         // the QUIC connection is gone, or about to be
)

// newConn returns the link of an established connection.
func newConn(q *quic.Conn, config *Config, limits *engine.Limits) *conn {
	c := &conn{quic: q, config: config, limits: limits, begun: time.Now()}
	c.wake.L = &c.mu
	state := q.ConnectionState()
	c.compat = state.TLS.NegotiatedProtocol == ""
	c.datagrams.init(c, state.SupportsDatagrams.Remote && !c.compat)
	if c.compat {
		c.outlet = c.newStream(nil)
		c.first = c.outlet
	}
	return c
}

// run serves the connection until it has ended and its goroutines are gone, then
// calls release, if there is one, and tells the engine.
func (c *conn) run(session *engine.Session, release func()) {
	c.mu.Lock()
	c.session = session
	c.wake.Broadcast()
	c.mu.Unlock()
	var err error
	if c.compat {
		c.work.Go(c.refuseStreams)
		err = c.acceptPackets()
	} else {
		if !c.dialed { // a dialed one grants no unidirectional streams
			c.work.Go(c.refuseUniStreams)
		}
		c.work.Go(c.receiveDatagrams)
		err = c.acceptStreams()
	}
	// quic-go tells the streams first, and then everybody.
	<-c.quic.Context().Done()
	reason := c.ended(err)
	c.work.Wait()
	if release != nil {
		release()
	}
	session.Ended(reason)
}

// ended marks the connection as gone, wakes everybody who waits for it, and
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

// fail ends the connection at once, because of what the peer did. It may be
// called from any goroutine but a callback, and blocks until quic-go is done.
func (c *conn) fail(reason error) {
	c.mu.Lock()
	if c.reason == nil {
		c.reason = reason
	}
	c.mu.Unlock()
	c.quit(reason)
}

// quit ends the QUIC connection with the code for reason.
func (c *conn) quit(reason error) {
	code := closeCode(reason)
	_ = c.quic.CloseWithError(code, codeText[code]) // it never fails
}

// Send implements engine.Link.
func (c *conn) Send(m *framing.Message) error {
	if m.Datagram {
		return c.datagrams.add(m)
	}
	body := len(m.Ext) + len(m.Payload)
	if body > c.limits.MaxMessageSize || c.compat && framing.PacketHeaderSize+body > compatMaxPacket {
		return engine.ErrTooLarge
	}
	size := int64(framing.PacketHeaderSize + body)
	if c.queued.Add(size) > int64(c.limits.OutboxLimit) {
		c.queued.Add(-size)
		return engine.ErrSlowConsumer // the engine aborts the session
	}
	st, err := c.append(m)
	if err != nil {
		c.queued.Add(-size)
		return err
	}
	st.answered(m)
	c.mu.Lock()
	if !st.dirty {
		st.dirty = true
		c.dirty = append(c.dirty, st)
	}
	c.mu.Unlock()
	return nil
}

// append queues m on its stream, or on the first one if that is gone.
func (c *conn) append(m *framing.Message) (*stream, error) {
	for handle := m.Stream; ; handle = 0 {
		st, err := c.route(handle)
		if err != nil {
			return nil, err
		}
		err = st.out.Append(framing.Packet{}, m)
		if err != errFinished {
			return st, err
		}
		// The stream was finished meanwhile: it is no longer the first one either.
	}
}

// route finds the stream for a message, and makes one if need be.
func (c *conn) route(handle uint64) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseOpen {
		return nil, c.reason
	}
	if st := c.streams[handle]; st != nil && (st.stopped || !st.finishing) {
		return st, nil
	}
	if c.first == nil || c.first.finishing {
		c.first = c.newStream(nil)
	}
	return c.first, nil
}

// Flush implements engine.Link.
func (c *conn) Flush() {
	c.mu.Lock()
	for i, st := range c.dirty {
		c.dirty[i] = nil
		st.dirty = false
		st.kick()
	}
	c.dirty = c.dirty[:0]
	c.datagrams.flush()
	c.mu.Unlock()
}

// wrote accounts for n bytes that were written, or lost.
func (c *conn) wrote(n int) {
	c.queued.Add(-int64(n))
	c.lastWrite.Store(int64(time.Since(c.begun)))
}

// PauseReading implements engine.Link.
func (c *conn) PauseReading(paused bool) {
	c.mu.Lock()
	c.paused.Store(paused)
	c.wake.Broadcast()
	c.mu.Unlock()
}

// awaitSession blocks until run was called, which is soon.
func (c *conn) awaitSession() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.session == nil {
		c.wake.Wait()
	}
}

// awaitResume blocks while reading is paused on an open connection.
func (c *conn) awaitResume() {
	if !c.paused.Load() {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.paused.Load() && c.phase == phaseOpen {
		c.wake.Wait()
	}
}

// forget drops a stream that both sides have finished. Under c.mu.
func (c *conn) forget(st *stream) {
	delete(c.streams, st.handle)
	c.all = without(c.all, st)
	if c.first == st {
		c.first = nil
	}
}

// acceptStreams reads the peer's bidirectional streams until the connection
// ends.
func (c *conn) acceptStreams() error {
	for {
		q, err := c.quic.AcceptStream(context.Background())
		if err != nil {
			return err
		}
		c.mu.Lock()
		st := c.newStream(q)
		if c.first == nil && !c.dialed {
			c.first = st
		}
		c.mu.Unlock()
		c.work.Go(st.read)
	}
}

// without returns list, changed in place, without st.
func without(list []*stream, st *stream) []*stream {
	if i := slices.Index(list, st); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
