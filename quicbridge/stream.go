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

	in reader

	// Guarded by conn.mu.
	dirty     bool // in conn.dirty
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
	}
	return st
}

// opened gives the stream its name. Under conn.mu.
func (st *stream) opened(q *quic.Stream) {
	st.quic, st.handle = q, uint64(q.StreamID())+1
	if st.conn.streams == nil {
		st.conn.streams = make(map[uint64]*stream)
	}
	st.conn.streams[st.handle] = st
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
	if st.writing || st.finished || st.conn.phase == phaseEnded {
		return
	}
	st.writing = true
	st.conn.spawn(st.write)
}

// write is the writer. Stream.Write blocks while the peer's windows are full:
// nobody but this goroutine waits for that.
func (st *stream) write() {
	for {
		b := st.out.Next()
		if b == nil {
			if !st.more() {
				return
			}
			continue
		}
		n, err := st.writeSome(b)
		if err != nil {
			st.out.Done(len(b)) // the rest of it is lost
			st.conn.queued.Add(-int64(len(b)))
			st.broken(err)
			return
		}
		st.out.Done(n)
		st.conn.queued.Add(-int64(n))
		st.conn.lastWrite.Store(int64(time.Since(st.conn.begun)))
	}
}

// writeSome writes some of b.
func (st *stream) writeSome(b []byte) (int, error) {
	if st.conn.compat {
		return st.conn.writePacket(b)
	}
	if st.quic == nil {
		if err := st.open(); err != nil {
			return 0, err
		}
	}
	return st.quic.Write(b)
}

// open opens the stream; it waits until the peer allows one more.
func (st *stream) open() error {
	c := st.conn
	q, err := c.quic.OpenStreamSync(c.quic.Context())
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseEnded {
		return c.reason
	}
	st.opened(q)
	c.spawn(st.read)
	return nil
}
