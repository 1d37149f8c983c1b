package quicbridge

import (
	"slices"
	"time"
)

// Close implements engine.Link.
//
// CONNECTION_CLOSE overtakes data: quic-go drops unsent data when it sends one, and
// unread data when it receives one. So an orderly close first writes all queued
// data and finishes every stream. Then it waits until the peer has finished its
// side of the streams; a Millrace peer does that after it has read everything. If
// the peer does not, the wait ends LingerTimeout after the last byte was written,
// and at the latest LingerTimeout after Close.
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
	c.wake.Broadcast() // a paused reader must now read up to the peer's FIN
	c.spawn(func() { c.linger(reason) })
}

// settle closes flushed and drained if an orderly close has come so far. Under
// c.mu.
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

// linger closes the QUIC connection when an orderly close is complete or has timed
// out. It blocks until then.
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

// sayFarewell opens a stream and finishes it without a byte. By this a Millrace
// peer detects that this side is closing, and does not keep finished streams open
// for replies to OneWays. It is only a hint that makes the close faster.
func (c *conn) sayFarewell() {
	q, err := c.quic.OpenStream()
	if err != nil {
		return // no stream credit: skip the hint; closing then takes up to LingerTimeout
	}
	_ = q.Close()
	q.CancelRead(streamCancelled)
}

// patience returns how much longer to wait for a peer to read, after all data was
// written.
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
