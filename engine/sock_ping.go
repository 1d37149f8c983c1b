package engine

import "github.com/millrace/millrace/internal/reactor"

// PingCodec, for protocol authors, is implemented by a Codec whose protocol has a ping
// that the peer answers, for Config.PingInterval.
type PingCodec interface {
	Codec
	// AppendPing appends a ping to dst, a whole control frame, or nothing, if this side
	// does not ping in this session. It is called on the session's loop and must not
	// block.
	AppendPing(dst []byte) []byte
}

// tcpProbes is how many unanswered keep-alive probes end a TCP connection within
// PongTimeout.
const tcpProbes = 3

// pingEnds returns the tick at which a ping is due, or at which the answer to one is
// overdue; 0 if there are no pings.
func (d *deadlines) pingEnds() int64 {
	c := d.timer.Owner
	limits := c.session.out.limits
	if limits.PingInterval == 0 || c.stage != stageOpen || c.input >= inputDraining || d.awaits == deadlineLinger {
		return 0
	}
	if d.pinged {
		return d.lastRead + ticksOf(limits.PongTimeout) + 1
	}
	if _, ok := c.codec.(PingCodec); !ok {
		return 0
	}
	return d.lastRead + ticksOf(limits.PingInterval) + 1
}

// ping sends a ping, or ends the session if the last one was not answered. held is whether
// the engine does not read, so that an answer may be there. While bytes wait for the peer,
// a ping would wait behind them: then Config.WriteTimeout decides.
func (d *deadlines) ping(held bool) {
	c := d.timer.Owner
	defer c.session.recoverPanic() // of a custom codec
	switch {
	case held || c.session.out.Pending() > 0:
		d.pinged = false
		d.lastRead = c.core().tick
	case d.pinged:
		c.endBehindMessages(ErrPongTimeout)
	default:
		var scratch [pingSize]byte
		b := c.codec.(PingCodec).AppendPing(scratch[:0])
		// A ping that waits behind other control frames would not be answered in time.
		d.pinged = len(b) > 0 && (*Control)(c).SendControl(b) == nil
		d.lastRead = c.core().tick // the answer, or the next ping, counts from now
	}
}

// pingSize is the usual size of a ping in bytes, or more.
const pingSize = 64

// keepAlive has the system probe the peer of a session whose protocol has no ping.
func (c *socketConn) keepAlive() {
	limits := c.session.out.limits
	if limits.PingInterval == 0 {
		return
	}
	if _, ok := c.codec.(PingCodec); !ok {
		_ = reactor.SetKeepAlive(c.sock.FD, reactor.KeepAlive{ // it fails on a Unix socket, whose peer cannot vanish
			Set: true, On: true, IdleSeconds: wholeSeconds(limits.PingInterval),
			IntervalSeconds: wholeSeconds(limits.PongTimeout / tcpProbes), Probes: tcpProbes,
		})
	}
}
