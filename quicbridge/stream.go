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
	// errFinished makes append choose another stream. It is internal.
	errFinished = errors.New("quicbridge: the stream is finished")

	// errStopped is returned to a sender if the peer has stopped reading the
	// stream.
	errStopped = fmt.Errorf("quicbridge: the stream isn't read any more: %w", engine.ErrPeerClosed)
)

// stream is a bidirectional stream, or the sending half of a msgtrans connection.
// One goroutine reads it (see receive.go), and one writes it while writing has to
// wait (see write.go).
type stream struct {
	conn *conn
	out  engine.Outbox

	// Written under conn.mu, before the reader starts and before the handle is
	// used.
	quic   *quic.Stream // nil if it isn't opened yet, or for msgtrans
	handle uint64       // its number in Message.Stream; 0 if it isn't opened yet
	ours   bool         // opened by this side

	requests atomic.Int32 // received, without their last Response yet
	oneWays  atomic.Int32 // received, not answered by a OneWay yet

	in reader

	// Used only by the goroutine that writes.
	direct   int              // bytes that tryWrite wrote since the last Stream.Write
	uni      *quic.SendStream // for msgtrans: opened for the next packet; else nil
	deadline time.Time        // set for Stream.Write; zero for none

	dirty atomic.Bool // in conn.dirty; written under conn.mu

	// Guarded by conn.mu.
	writing   bool // the writer runs
	again     bool // the writer was kicked since it last looked
	readEnded bool // the peer has finished, or reading has ended
	finishing bool // no message may be appended any more
	finished  bool // the last byte is written, or none ever will be
	stopped   bool // the peer doesn't read any more
	graceOver bool
	grace     *time.Timer
}

// newStream adds a stream to the connection: q, which the peer opened, or with nil
// one that this side opens when it has bytes to write. Under c.mu, or before c is
// used.
func (c *conn) newStream(q *quic.Stream) *stream {
	st := &stream{conn: c, ours: q == nil}
	st.out.Init(c.limits)
	c.all = append(c.all, st)
	if q != nil {
		st.opened(q)
	}
	if c.phase != phaseOpen {
		st.out.Close(c.reason)
		st.kick() // to finish it, as Close did for the others
	}
	return st
}

// opened gives the stream its handle. Under conn.mu.
func (st *stream) opened(q *quic.Stream) {
	st.quic, st.handle = q, uint64(q.StreamID())+1
	st.conn.remember(st)
}

// asked counts a received message.
func (st *stream) asked(m *framing.Message) {
	switch {
	case m.Flags&framing.FlagFragmented != 0: // its last fragment counts
	case m.Type == framing.Request:
		st.requests.Add(1)
	case m.Type == framing.OneWay && m.Flags&framing.FlagCancel != 0:
		if countDown(&st.requests) { // it may still be answered
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

// countOff subtracts n from count, but not below 0, and returns how much it
// subtracted.
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

// countDown subtracts 1 from n unless it is 0, and reports whether it did.
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

// kick makes the writer look at the stream again. It writes and finishes the stream
// itself if that takes no waiting, and else starts the writer. Under conn.mu.
func (st *stream) kick() {
	st.again = true
	if st.writing || st.finished || st.conn.phase == phaseEnded || st.writeDirectly() {
		return
	}
	st.writing = true
	st.conn.spawn(func() { st.write(false) })
}

// Bounds in bytes of writes that don't wait: for one piece, so that it fits a packet,
// and for the sum until Stream.Write has shown again that quic-go keeps up.
const (
	directPiece  = 1400
	directBudget = 16 << 10
)

// writeDirectly writes small pieces, and finishes the stream if nothing can follow,
// without starting the writer's goroutine. It reports whether the outbox is empty.
// Under conn.mu.
func (st *stream) writeDirectly() bool {
	c := st.conn
	if st.quic == nil && !c.compat || c.phase != phaseOpen {
		return false
	}
	defer c.wake.Broadcast()
	for {
		b := st.out.Next()
		n := 0
		switch {
		case len(b) == 0:
		case c.compat:
			n = st.tryWritePacket(b)
		case st.tryWrite(b):
			n = len(b)
		}
		switch {
		case n > 0:
			st.out.Done(n)
			c.wrote(n)
		case len(b) > 0:
			return false // the writer gets the same bytes
		case st.finishing:
			st.finish()
			return true
		case st.mayFinish():
			st.noneMayFollow()
		default:
			st.again = false
			return true
		}
	}
}

// tryWrite writes b if it is small and the peer's windows allow it, and reports
// whether it did. TryWriteAll never waits, but queues in quic-go all bytes that the
// windows allow, and these may be huge. So directBudget bounds it. A Stream.Write
// renews the budget, because it returns only after the bytes queued before it were
// sent. By the goroutine that writes.
func (st *stream) tryWrite(b []byte) bool {
	if len(b) > directPiece || st.direct+len(b) > directBudget || st.quic.TryWriteAll(b) != nil {
		return false
	}
	st.direct += len(b)
	return true
}
