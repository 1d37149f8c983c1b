package quicbridge

import (
	"slices"
	"time"
)

// Close implements engine.Link.
//
// CONNECTION_CLOSE overtakes data: quic-go drops what is unsent when it sends
// one, and what is unread when it gets one. So an orderly end first writes what
// is queued and finishes every stream, then waits until the peer has finished
// them as well, which a Millrace peer does when it has read everything; a peer
// that doesn't gets LingerTimeout, from the last byte written, to read.
func (c *conn) Close(reason error, abort bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseEnded {
		return
	}
	if abort || c.limits.LingerTimeout == 0 {
		c.reason = reason
		c.phase = phaseClosing
		c.spawn(func() { c.quit(reason) })
		c.wake.Broadcast()
		return
	}
	if c.phase == phaseClosing {
		return
	}
	c.phase = phaseClosing
	c.reason = reason
	c.flushed, c.drained = make(chan struct{}), make(chan struct{})
	for _, st := range c.all {
		st.out.Close(reason)
		st.kick()
	}
	c.settle()
	c.wake.Broadcast() // a paused reader looks for the peer's end now
	c.spawn(func() { c.linger(reason) })
}

// settle notices how far an orderly end has come. Under c.mu.
func (c *conn) settle() {
	if c.flushed == nil {
		return
	}
	unwritten := slices.ContainsFunc(c.all, func(st *stream) bool { return !st.finished })
	if !unwritten {
		closeOnce(c.flushed)
	}
	if len(c.all) == 0 {
		closeOnce(c.drained)
	}
}

func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// linger ends the QUIC connection when an orderly end is complete or has taken
// too long.
func (c *conn) linger(reason error) {
	if !c.compat {
		c.sayFarewell()
	}
	deadline := time.NewTimer(c.limits.LingerTimeout)
	defer deadline.Stop()
	gone := c.quic.Context().Done()
	select {
	case <-c.flushed:
		patience := time.NewTimer(c.patience())
		defer patience.Stop()
		select {
		case <-c.drained:
		case <-patience.C:
		case <-deadline.C:
		case <-gone:
		}
	case <-deadline.C:
	case <-gone:
	}
	c.quit(reason)
}

// sayFarewell opens a stream and finishes it without a byte: by that a Millrace
// peer knows that this side is leaving, and won't keep finished streams open for
// replies to OneWays. Nothing depends on it but how long the end takes.
func (c *conn) sayFarewell() {
	q, err := c.quic.OpenStream()
	if err != nil {
		return // the peer allows no more streams: it takes as long as it takes
	}
	_ = q.Close()
	q.CancelRead(streamCancelled)
}

// patience is how long a peer that has been sent everything may still take to
// read it.
func (c *conn) patience() time.Duration {
	last := c.lastWrite.Load()
	if last == 0 {
		return 0
	}
	wait := c.limits.LingerTimeout
	if c.compat {
		wait /= compatPatience
	}
	return max(0, time.Duration(last)-time.Since(c.begun)+wait)
}
