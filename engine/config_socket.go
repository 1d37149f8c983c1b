package engine

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/millrace/millrace/internal/reactor"
)

// SocketOptions are set on the stream sockets of an engine: listening, accepted
// and dialed ones. Transports such as QUIC have their own. The zero value means the
// system's defaults, with Nagle's algorithm off. On Unix sockets only the buffers
// and the backlog have an effect.
type SocketOptions struct {
	// Nagle lets the system hold back small segments while earlier ones are
	// unacknowledged (TCP_NODELAY off). Default off.
	Nagle bool

	// KeepAliveIdle is how long a connection is silent before the system sends a
	// keep-alive probe, in whole seconds, rounded up. 0 means no probes on accepted
	// connections, and package net's default on dialed ones; negative means no probes.
	// At most 32767 s.
	KeepAliveIdle time.Duration

	// KeepAliveInterval is the time between two probes, in whole seconds, rounded up.
	// KeepAliveCount is how many unanswered probes end the connection with
	// ErrConnectionLost. Both need a KeepAliveIdle above 0. Defaults 15 s and 9; at
	// most 32767 s and 127.
	KeepAliveInterval time.Duration
	KeepAliveCount    int

	// ReusePort lets several listeners, of one process or several, bind the same
	// address (SO_REUSEPORT). Default off. It takes effect when a socket is bound, so
	// adopted sockets are unchanged.
	ReusePort bool

	// ReadBuffer and WriteBuffer are the sizes in bytes of the system's buffers of a
	// connection (SO_RCVBUF, SO_SNDBUF; Linux doubles and bounds them). 0 means that
	// the system sizes them. At most 1 GiB.
	ReadBuffer  int
	WriteBuffer int

	// Backlog is how many connections may wait to be accepted. 0 means the system's
	// maximum. At most 65535; the system may allow fewer.
	Backlog int

	// ResetOnClose closes connections by a reset (SO_LINGER with 0 seconds), which
	// leaves nothing in TIME_WAIT. Bytes that the peer's system has not acknowledged
	// by then are lost; an orderly close first waits for the peer's end, up to
	// Config.LingerTimeout. SO_LINGER above 0 is not offered, because close would then
	// block an event loop; LingerTimeout replaces it.
	ResetOnClose bool

	// LocalAddr is the address that Dial binds first; port 0 means any port. The zero
	// AddrPort means that the system chooses.
	LocalAddr netip.AddrPort
}

const (
	maxKeepAlive             = 32767 * time.Second // Linux's MAX_TCP_KEEPIDLE
	maxKeepAliveCount        = 127                 // Linux's MAX_TCP_KEEPCNT
	defaultKeepAliveInterval = 15 * time.Second
	defaultKeepAliveCount    = 9
	maxSocketBuffer          = 1 << 30 // bytes
	maxBacklog               = 1<<16 - 1
)

// Validate reports the first field that is out of its bounds.
func (o *SocketOptions) Validate() error {
	if o.KeepAliveIdle > maxKeepAlive {
		return fmt.Errorf("engine: Config.Socket.KeepAliveIdle %v is above %v", o.KeepAliveIdle, maxKeepAlive)
	}
	if o.KeepAliveInterval < 0 || o.KeepAliveInterval > maxKeepAlive {
		return fmt.Errorf("engine: Config.Socket.KeepAliveInterval %v is outside 0 to %v", o.KeepAliveInterval, maxKeepAlive)
	}
	if o.KeepAliveIdle <= 0 && (o.KeepAliveInterval != 0 || o.KeepAliveCount != 0) {
		return fmt.Errorf("engine: Config.Socket.KeepAliveInterval and KeepAliveCount need a KeepAliveIdle")
	}
	for _, b := range []struct {
		field     string
		value, hi int
	}{
		{"KeepAliveCount", o.KeepAliveCount, maxKeepAliveCount},
		{"ReadBuffer", o.ReadBuffer, maxSocketBuffer},
		{"WriteBuffer", o.WriteBuffer, maxSocketBuffer},
		{"Backlog", o.Backlog, maxBacklog},
	} {
		if b.value < 0 || b.value > b.hi {
			return fmt.Errorf("engine: Config.Socket.%s %d is outside 0 to %d", b.field, b.value, b.hi)
		}
	}
	return nil
}

// system translates o for the reactor.
func (o *SocketOptions) system() *reactor.Options {
	r := &reactor.Options{
		Nagle:        o.Nagle,
		ReusePort:    o.ReusePort,
		ReadBuffer:   o.ReadBuffer,
		WriteBuffer:  o.WriteBuffer,
		Backlog:      o.Backlog,
		ResetOnClose: o.ResetOnClose,
	}
	if o.KeepAliveIdle != 0 {
		interval, count := o.KeepAliveInterval, o.KeepAliveCount
		setInt(&count, defaultKeepAliveCount)
		setDuration(&interval, defaultKeepAliveInterval)
		r.KeepAlive = reactor.KeepAlive{
			Set:             true,
			On:              o.KeepAliveIdle > 0,
			IdleSeconds:     wholeSeconds(o.KeepAliveIdle),
			IntervalSeconds: wholeSeconds(interval),
			Probes:          count,
		}
	}
	return r
}

func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
