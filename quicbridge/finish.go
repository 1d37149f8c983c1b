package quicbridge

import (
	"errors"
	"time"

	"github.com/quic-go/quic-go"
)

// replyGrace is how long after the last message of a finished stream that stream
// is kept for a reply to a OneWay, about which nobody can know whether it comes.
const replyGrace = time.Second

// more decides what the writer does with nothing queued: look again (true), or
// end, after it has finished the stream if it is time for that.
func (st *stream) more() bool {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.again {
		st.again = false
		return true
	}
	if !st.finishing && st.mayFinish() {
		st.finishing = true
		st.stopGrace()
		st.out.Close(errFinished)
		return true // something may have been appended a moment ago
	}
	st.writing = false
	if st.finishing {
		st.finish()
	}
	c.wake.Broadcast()
	return false
}

// mayFinish reports whether nothing can come any more that would have to be
// written. Under conn.mu.
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
		_ = st.quic.Close() // it fails if the peer has stopped reading, which is as well
	}
	if st.readEnded || st.quic == nil && !st.conn.compat {
		st.conn.forget(st)
	}
	st.conn.settle()
}

// broken ends the sending half after a failed write.
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
// the last Next returned, which the writer may have taken in part. By the writer.
func (st *stream) drop() {
	for b := st.out.Next(); len(b) > 0; b = st.out.Next() {
		st.out.Done(len(b))
		st.conn.queued.Add(-int64(len(b)))
	}
}

// ended notes that the reader is done.
func (st *stream) ended() {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	st.readEnded = true
	if st.in.empty && !st.ours && !c.farewell {
		c.farewell = true // see sayFarewell
		for _, waiting := range c.graceful {
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

// startGrace leaves the finished stream open for a reply for a while, and
// reports whether it did. The oldest such streams give way when there are many,
// so that a peer which opens a stream for each message isn't held up. Under
// conn.mu.
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

// stopGrace ends what startGrace began. Under conn.mu.
func (st *stream) stopGrace() {
	if st.grace == nil {
		return
	}
	st.grace.Stop()
	st.grace = nil
	st.conn.graceful = without(st.conn.graceful, st)
}
