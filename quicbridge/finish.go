package quicbridge

import (
	"errors"
	"slices"
	"time"

	"github.com/quic-go/quic-go"
)

// replyGrace is how long a stream that the peer has finished is kept open for a
// reply to a OneWay, counted from its last message. A OneWay may be answered, but
// need not be.
const replyGrace = time.Second

// more is called by the writer when nothing is queued. If it returns true, the
// writer must look again. Otherwise the writer ends; more has then finished the
// stream, if nothing can follow.
func (st *stream) more() bool {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.again {
		st.again = false
		return true
	}
	if !st.finishing && st.mayFinish() {
		st.noneMayFollow()
		return true // a message may have been appended just before
	}
	st.writing = false
	if st.finishing {
		st.finish()
	}
	c.wake.Broadcast()
	return false
}

// noneMayFollow closes the outbox, so that no message is appended any more. Under
// conn.mu.
func (st *stream) noneMayFollow() {
	st.finishing = true
	st.stopGrace()
	st.out.Close(errFinished)
}

// mayFinish reports whether no further message can have to be written. It may start
// the grace period. Under conn.mu.
func (st *stream) mayFinish() bool {
	switch {
	case st.conn.phase != phaseOpen:
		return true
	case !st.readEnded || st.requests.Load() > 0:
		return false
	case st.ours || st.graceOver || st.conn.farewell || st.oneWays.Load() <= 0:
		return true
	}
	return !st.startGrace()
}

// finish ends the sending half. Under conn.mu.
func (st *stream) finish() {
	st.finished = true
	if st.quic != nil {
		_ = st.quic.Close() // it fails if the peer stopped reading, or the connection is gone: no FIN is needed then
	}
	if st.readEnded || st.quic == nil && !st.conn.compat {
		st.conn.forget(st)
	}
	st.conn.settle()
}

// broken ends the sending half after a failed write, or a failed opening.
func (st *stream) broken(err error) {
	c := st.conn
	var stop *quic.StreamError
	reason := errStopped
	if !errors.As(err, &stop) {
		reason = endReason(err)
	}
	st.out.Close(reason)
	st.drop()
	c.mu.Lock()
	defer c.mu.Unlock()
	st.stopped, st.finishing, st.writing = true, true, false
	st.stopGrace()
	if c.first == st && !c.compat {
		c.first = nil
	}
	st.finish()
	c.wake.Broadcast()
}

// drop empties the closed outbox. Unlike Outbox.Discard it includes the block that
// the last Next returned, of which the writer may have taken a part. Only the
// writer may call it.
func (st *stream) drop() {
	for b := st.out.Next(); len(b) > 0; b = st.out.Next() {
		st.out.Done(len(b))
		st.conn.queued.Add(-int64(len(b)))
	}
}

// ended records that the reader is done: it will deliver no further message. Only
// the first call counts.
func (st *stream) ended() {
	c := st.conn
	if st.in.over {
		return
	}
	st.in.over = true
	c.mu.Lock()
	defer c.mu.Unlock()
	st.readEnded = true
	if st.in.empty && !st.ours && !c.farewell {
		c.farewell = true                                  // see sayFarewell
		for _, waiting := range slices.Clone(c.graceful) { // kick changes it
			waiting.kick()
		}
	}
	if st.finished {
		c.forget(st)
		c.settle()
		return
	}
	st.kick()
}

// startGrace keeps the finished stream open for a reply until replyGrace has
// passed, and reports whether it did. If more than half of MaxStreams wait, the
// oldest one ends its wait, so that a peer which opens a stream for each message is
// not delayed. Under conn.mu.
func (st *stream) startGrace() bool {
	c := st.conn
	if st.grace != nil {
		return true
	}
	left := replyGrace - time.Since(st.in.lastMessage)
	if left <= 0 {
		return false
	}
	st.grace = time.AfterFunc(left, st.endGrace)
	c.graceful = append(c.graceful, st)
	if len(c.graceful) > max(1, c.config.MaxStreams/2) {
		oldest := c.graceful[0]
		oldest.stopGrace()
		oldest.graceOver = true
		oldest.kick()
	}
	return true
}

func (st *stream) endGrace() {
	st.conn.mu.Lock()
	defer st.conn.mu.Unlock()
	st.stopGrace()
	st.graceOver = true
	st.kick()
}

// stopGrace ends the grace period, if there is one. Under conn.mu.
func (st *stream) stopGrace() {
	if st.grace == nil {
		return
	}
	st.grace.Stop()
	st.grace = nil
	st.conn.graceful = without(st.conn.graceful, st)
}
