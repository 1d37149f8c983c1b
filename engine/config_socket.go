package engine

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/millrace/millrace/internal/reactor"
)

// SocketOptions are set on the stream sockets of an engine, listening, accepted
// and dialed; transports such as QUIC have their own. The zero value means the
// system's defaults, with Nagle's algorithm off. On Unix sockets only the
// buffers and the backlog mean anything.
type SocketOptions struct {
	// Nagle lets the system hold back small segments while earlier ones are
	// unacknowledged (TCP_NODELAY off). Default off.
	Nagle bool

	// KeepAliveIdle is how long a connection is silent before the system asks
	// whether the peer is there, in whole seconds, rounded up. 0 means that
	// accepted connections are not asked, and dialed ones as package net does
	// it; negative means never. At most 32767 s.
	KeepAliveIdle time.Duration

	// KeepAliveInterval is the time between two such questions, as above, and
	// KeepAliveCount how many unanswered ones end the connection with
	// ErrConnectionLost. They are used where KeepAliveIdle is above 0.
	// Defaults 15 s and 9; at most 32767 s and 127.
	KeepAliveInterval time.Duration
	KeepAliveCount    int

	// ReusePort lets several listeners, of one process or several, bind the
	// same address (SO_REUSEPORT). Default off. It is a matter of binding, so
	// adopted sockets aren't touched by it.
	ReusePort bool

	// ReadBuffer and WriteBuffer are the system's buffers of a connection, in
	// bytes (SO_RCVBUF, SO_SNDBUF; Linux doubles them for its own needs, and
	// bounds them). 0 leaves them to the system, which adapts them. At most 1 GiB.
	ReadBuffer  int
	WriteBuffer int

	// Backlog is how many connections may wait to be accepted. 0 means the
	// system's largest; at most 65535, of which the system may allow less.
	Backlog int

	// ResetOnClose closes connections by a reset (SO_LINGER with 0 seconds),
	// which leaves nothing in TIME_WAIT. What the peer's system has not
	// acknowledged then is lost: an orderly close waits before for the peer's
	// end, up to Config.LingerTimeout. There is no SO_LINGER above 0, because
	// closing would then hold up an event loop; LingerTimeout does its work.
	ResetOnClose bool

	// LocalAddr is the address that Dial binds first; port 0 picks one. The
	// zero AddrPort leaves it to the system.
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
