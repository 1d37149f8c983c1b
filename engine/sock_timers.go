package engine

import (
	"time"

	"github.com/millrace/millrace/internal/wheel"
)

// deadlines are a socket's deadlines, each a tick or 0 for none. One timer in the core's
// wheel is armed for the earliest. Reading and writing do not change the timer: if a
// deadline has moved when the timer fires, the timer is armed again. All methods run on
// the loop.
type deadlines struct {
	lastRead      int64
	partialEnds   int64 // the incomplete message must be complete, or have grown
	partialSize   int32 // its size when partialEnds was set
	awaits        deadline
	pinged        bool  // a ping was sent since lastRead
	ends          int64 // the deadline that awaits describes
	handshakeEnds int64 // the deadline of the handshake, set at the peer's first byte
	writeEnds     int64 // the peer must have accepted bytes
	timer         wheel.Timer[socketConn]
}

// deadline is the step that a connection must make before deadlines.ends.
type deadline uint8

const (
	deadlineNone      deadline = iota
	deadlineSilence            // send a first byte, else it gets the fallback protocol
	deadlineHandshake          // complete its handshakes
	deadlineRefusal            // send its first bytes, to get a refusal in its protocol
	deadlineLinger             // end
)

// partialGrowth is how many bytes of a message a peer must send in PartialTimeout
// if it does not complete it.
const partialGrowth = 16 << 10

// received accounts for n bytes that were read.
func (d *deadlines) received(n int) {
	k := d.timer.Owner.core()
	d.lastRead = k.tick
	if d.pinged {
		d.pinged = false
		d.arm() // the next ping may be due before the answer was
	}
	k.stats.bytesIn.Add(uint64(n))
}

// startDeadline sets the deadline of the step what, within from now; 0 means none.
func (d *deadlines) startDeadline(what deadline, within time.Duration) {
	c := d.timer.Owner
	d.awaits, d.ends = what, 0
	if within > 0 {
		d.ends = c.core().deadline(within)
	}
	if what == deadlineHandshake && c.stage != stageProxyHeader {
		d.handshakeEnds = d.ends
	}
	d.arm()
}

// firstBytes is called when bytes of a handshake have arrived. The deadline of the
// handshake counts from the first of them, through all layers.
func (d *deadlines) firstBytes() {
	c := d.timer.Owner
	if d.awaits == deadlineRefusal || d.awaits == deadlineHandshake && d.handshakeEnds != 0 {
		return
	}
	if d.handshakeEnds == 0 {
		d.startDeadline(deadlineHandshake, c.session.out.limits.HandshakeTimeout)
		return
	}
	d.awaits, d.ends = deadlineHandshake, d.handshakeEnds
	d.arm()
}

// arm sets the timer to the earliest deadline.
func (d *deadlines) arm() {
	c := d.timer.Owner
	next := int64(0)
	for _, at := range [...]int64{d.ends, d.idleEnds(), d.pingEnds(), d.resumeAt(), d.writeEnds, d.partialEnds} {
		if at != 0 && (next == 0 || at < next) {
			next = at
		}
	}
	k := c.core()
	if next == 0 {
		k.wheel.Cancel(&d.timer)
	} else {
		k.wheel.Schedule(&d.timer, next)
	}
	k.countTimers()
}

// disarm cancels the timer for good.
func (d *deadlines) disarm() {
	c := d.timer.Owner
	c.core().wheel.Cancel(&d.timer)
	c.core().countTimers()
}

// idleEnds returns the tick at which the session has been idle for too long, or 0.
func (d *deadlines) idleEnds() int64 {
	c := d.timer.Owner
	if t := c.session.out.limits.IdleTimeout; t > 0 && c.stage == stageOpen && c.input < inputDraining && d.awaits != deadlineLinger {
		return d.lastRead + ticksOf(t) + 1
	}
	return 0
}

// resumeAt returns the tick at which the throttle resumes reading; 0 if it has not paused.
func (d *deadlines) resumeAt() int64 {
	c := d.timer.Owner
	if t := c.session.rates(); t != nil {
		return t.resumeAt
	}
	return 0
}

// notePartial starts, moves or ends the deadline of an incomplete message, after
// input was decoded. fresh reports that the bytes in front of the tail were consumed:
// unless the codec keeps a message, the tail is not the one that the deadline was for.
// A delivered message has ended its deadline already. The timer is armed only if it
// would fire too late: onTimer postpones it.
func (d *deadlines) notePartial(fresh bool) {
	c := d.timer.Owner
	within := c.session.out.limits.PartialTimeout
	size, begun := 0, false
	if p, ok := c.codec.(PartialCodec); ok && c.stage == stageOpen {
		size, begun = p.Partial()
	}
	c.noteInput(size)
	if within == 0 || c.stage != stageOpen {
		return
	}
	if c.tail == nil && !begun || c.backlog&dueTail != 0 {
		d.partialEnds = 0
		return
	}
	if c.tail != nil {
		size += len(c.tail.b)
	}
	if d.partialEnds != 0 && (begun || !fresh) && size < int(d.partialSize)+partialGrowth {
		return // the same message, and not enough more of it
	}
	d.partialEnds, d.partialSize = c.core().tick+ticksOf(within)+1, int32(size)
	if !d.timer.Armed() || d.timer.Deadline() > d.partialEnds {
		d.arm()
	}
}

// onTimer handles the deadlines that are due, and arms the timer for the others.
func (d *deadlines) onTimer() {
	c := d.timer.Owner
	s, now := c.session, c.core().tick
	if at := d.resumeAt(); at != 0 && at <= now {
		s.rates().resumeAt = 0
		s.unblockReading(readThrottled)
	}
	if d.writeEnds != 0 && d.writeEnds <= now {
		d.writeDeadline()
	}
	stalled := c.core().stalled.Load() || c.backlog&waiting != 0
	if d.ends != 0 && d.ends <= now {
		d.ends = 0
		if stalled && (d.awaits == deadlineSilence || d.awaits == deadlineHandshake) {
			d.postpone(now + 1) // the peer's bytes may be there, but are not read
		} else {
			d.missed(d.awaits)
		}
	}
	held := stalled || c.backlog != 0 || s.reading.Load() != 0 // the engine does not read, or has not yet
	byMemory := !stalled && c.backlog&^dueSocket == 0 && s.reading.Load() == readMemory
	if idle := d.idleEnds(); idle != 0 && idle <= now && c.input < inputDraining {
		if held {
			d.lastRead = now
		} else {
			c.endBehindMessages(ErrIdleTimeout)
		}
	}
	if at := d.pingEnds(); at != 0 && at <= now {
		d.ping(held)
	}
	if d.partialEnds != 0 && d.partialEnds <= now && c.input < inputDraining {
		if held && !byMemory {
			d.partialEnds = c.core().deadline(c.session.out.limits.PartialTimeout)
		} else {
			c.endBehindMessages(ErrPartialTimeout)
		}
	}
	if c.stage != stageGone && !d.timer.Armed() {
		d.arm()
	}
	c.checked()
}

// postpone moves the deadline of a connection that is not open to a tick.
func (d *deadlines) postpone(to int64) {
	d.ends = to
	if d.handshakeEnds != 0 {
		d.handshakeEnds = to
	}
}

// missed ends a connection that did not do in time what the deadline was for.
func (d *deadlines) missed(what deadline) {
	c := d.timer.Owner
	switch {
	case what == deadlineLinger:
		c.close(ErrConnectionLost, true) // the first reason is kept
	case what == deadlineSilence && d.mayFallBack():
		c.adopt(c.session.listener.fallback)
	default:
		c.stopInput(inputDraining)
		c.close(ErrHandshakeTimeout, false)
	}
}

// mayFallBack reports whether a silent connection may get the listener's fallback
// protocol.
func (d *deadlines) mayFallBack() bool {
	c := d.timer.Owner
	l := c.session.listener
	if l.fallback == nil || c.tail != nil || c.stage == stageTLSHandshake {
		return false
	}
	return c.tls != nil || l.tls == nil || !l.tls.cfg.Required
}

// writeDeadline ends a session whose peer has accepted no bytes for too long. The writer
// stores the tick of its progress, from which the deadline is moved here.
func (d *deadlines) writeDeadline() {
	c := d.timer.Owner
	d.writeEnds = 0
	if o := c.outputState(); o < outputFull || o > outputBlocked {
		return
	}
	limit := ticksOf(c.session.out.limits.WriteTimeout)
	if moved := c.lastWrite.Load(); moved+limit >= c.core().tick {
		d.writeEnds = moved + limit + 1
		return
	}
	c.close(ErrWriteTimeout, true)
}

// armWriteTask starts the write deadline of a session whose socket is full.
func armWriteTask(arg any) error {
	c := arg.(*socketConn)
	if c.stage == stageGone {
		return nil
	}
	ends := c.core().deadline(c.session.out.limits.WriteTimeout)
	c.lastWrite.Store(c.core().tick)
	if c.writeEnds == 0 {
		c.writeEnds = ends
		c.arm()
	}
	return nil
}
