package quicbridge

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

var (
	// errFinished makes a message look for another stream; nobody else sees it.
	errFinished = errors.New("quicbridge: the stream is finished")

	// errStopped is what a sender gets whose peer doesn't want the answers of
	// this stream any more.
	errStopped = fmt.Errorf("quicbridge: the stream isn't read any more: %w", engine.ErrPeerClosed)
)

// stream is a bidirectional stream, or the sending half of a msgtrans
// connection. Its reader (see receive.go) and its writer are one goroutine each,
// the writer only while there is something to write.
type stream struct {
	conn *conn
	out  engine.Outbox

	// Written under conn.mu before the reader starts, or the handle is known.
	quic   *quic.Stream // nil if it isn't opened yet, or for msgtrans
	handle uint64       // what messages call it; 0 if it isn't opened yet
	ours   bool         // opened by this side

	requests atomic.Int32 // that came and have no last Response yet
	oneWays  atomic.Int32 // that came and were not answered by a OneWay yet

	in      reader
	replies engine.Replies // collected by the reader

	// Of whoever writes.
	direct   int       // bytes that writeDirectly wrote since the writer did
	deadline time.Time // that is set for Stream.Write; zero for none

	dirty atomic.Bool // in conn.dirty; written under conn.mu

	// Guarded by conn.mu.
	writing   bool // the writer runs
	again     bool // the writer was kicked since it last looked
	readEnded bool // the peer has finished, or will not be read any more
	finishing bool // nothing is appended any more
	finished  bool // the last byte is written, or none ever will be
	stopped   bool // the peer doesn't read any more
	graceOver bool
	grace     *time.Timer
}

// newStream adds a stream to the connection: q, which the peer opened, or with
// nil one that this side will open when it has something to say. Under c.mu, or
// before c is used.
func (c *conn) newStream(q *quic.Stream) *stream {
	st := &stream{conn: c, ours: q == nil}
	st.out.Init(c.limits)
	c.all = append(c.all, st)
	if q != nil {
		st.opened(q)
	}
	if c.phase != phaseOpen {
		st.out.Close(c.reason)
		st.kick() // to finish it: Close has seen to the others
	}
	return st
}

// opened gives the stream its name. Under conn.mu.
func (st *stream) opened(q *quic.Stream) {
	st.quic, st.handle = q, uint64(q.StreamID())+1
	st.conn.remember(st)
}

// asked counts a message that came.
func (st *stream) asked(m *framing.Message) {
	switch {
	case m.Flags&framing.FlagFragmented != 0: // its last fragment counts
	case m.Type == framing.Request:
		st.requests.Add(1)
	case m.Type == framing.OneWay && m.Flags&framing.FlagCancel != 0:
		if countDown(&st.requests) { // it may be answered still
			st.oneWays.Add(1)
		}
	case m.Type == framing.OneWay:
		st.oneWays.Add(1)
	}
}

// answered counts a message that was queued.
func (st *stream) answered(m *framing.Message) {
	switch {
	case m.Flags&(framing.FlagFragmented|framing.FlagMore) != 0: // the last one counts
	case m.Type == framing.Response:
		_ = countDown(&st.requests) || countDown(&st.oneWays)
	case m.Type == framing.OneWay:
		countDown(&st.oneWays)
	}
}

// countOff takes n from count, or what there is, and returns how many that was.
func countOff(count *atomic.Int32, n int) int {
	if n == 0 {
		return 0
	}
	for {
		v := count.Load()
		k := min(v, int32(n))
		if count.CompareAndSwap(v, v-k) {
			return int(k)
		}
	}
}

// countDown takes one from n unless it is zero, and reports whether it did.
func countDown(n *atomic.Int32) bool {
	for {
		v := n.Load()
		if v <= 0 {
			return false
		}
		if n.CompareAndSwap(v, v-1) {
			return true
		}
	}
}

// kick makes the writer look at the stream again. Under conn.mu.
func (st *stream) kick() {
	st.again = true
	if st.writing || st.finished || st.conn.phase == phaseEnded || st.writeDirectly() {
		return
	}
	st.writing = true
	st.conn.spawn(func() { st.write(false) })
}

// What may be written without the writer, in bytes: a piece that fits a packet,
// and so much before the writer has seen again that quic-go keeps up.
const (
	directPiece  = 1400
	directBudget = 16 << 10
)

// writeDirectly spares a small reply the writer's goroutine, and reports whether
// there is nothing left to do for that. TryWriteAll never waits for the peer, but
// queues within quic-go whatever the peer's windows allow, however huge they are;
// so a budget bounds it, which Stream.Write renews because it returns only when
// what was queued before has been sent. Under conn.mu.
func (st *stream) writeDirectly() bool {
	c := st.conn
	if st.quic == nil || st.readEnded || st.finishing || c.phase != phaseOpen {
		return false
	}
	for {
		b := st.out.Next()
		if len(b) == 0 {
			st.again = false
			return true
		}
		if len(b) > directPiece || st.direct+len(b) > directBudget || st.quic.TryWriteAll(b) != nil {
			return false // the writer gets the same bytes
		}
		st.direct += len(b)
		st.out.Done(len(b))
		c.wrote(len(b))
		c.wake.Broadcast()
	}
}
