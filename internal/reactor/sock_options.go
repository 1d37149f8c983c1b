package reactor

import (
	"errors"
	"os"

	"github.com/panjf2000/gnet/v2/pkg/socket"
	"golang.org/x/sys/unix"
)

// Options are settings of a stream socket. The zero value keeps the system's
// defaults, except for Nagle's algorithm, which it turns off.
type Options struct {
	Nagle        bool
	KeepAlive    KeepAlive
	ReusePort    bool
	ReadBuffer   int // bytes; 0 is the system's
	WriteBuffer  int // bytes; 0 is the system's
	Backlog      int // 0 is the system's largest
	ResetOnClose bool
}

// SetKeepAlive sets the keep-alive probes of a TCP socket.
func SetKeepAlive(fd int, k KeepAlive) error {
	return socket.SetKeepAlive(fd, k.On, k.IdleSeconds, k.IntervalSeconds, k.Probes)
}

// KeepAlive configures TCP's keep-alive probes.
type KeepAlive struct {
	Set             bool // if false, the system's default applies
	On              bool
	IdleSeconds     int
	IntervalSeconds int
	Probes          int
}

// Apply sets o on fd; tcp must be true for a TCP socket. Accepted sockets inherit
// the options of their listener.
func (o *Options) Apply(fd int, tcp bool) error {
	var errs []error
	if o.ReadBuffer > 0 {
		errs = append(errs, socket.SetRecvBuffer(fd, o.ReadBuffer))
	}
	if o.WriteBuffer > 0 {
		errs = append(errs, socket.SetSendBuffer(fd, o.WriteBuffer))
	}
	if !tcp {
		return errors.Join(errs...)
	}
	noDelay := 1
	if o.Nagle {
		noDelay = 0
	}
	errs = append(errs, socket.SetNoDelay(fd, noDelay))
	if k := o.KeepAlive; k.Set {
		errs = append(errs, SetKeepAlive(fd, k))
	}
	if o.ResetOnClose {
		errs = append(errs, socket.SetLinger(fd, 0))
	}
	return errors.Join(errs...)
}

// beforeBind are the settings of a listening socket.
func (o *Options) beforeBind(tcp bool) []socket.Option[int] {
	opts := []socket.Option[int]{{SetSockOpt: func(fd, _ int) error { return o.Apply(fd, tcp) }}}
	if !tcp {
		return opts
	}
	opts = append(opts, socket.Option[int]{SetSockOpt: socket.SetReuseAddr, Opt: 1})
	if o.ReusePort {
		opts = append(opts, socket.Option[int]{SetSockOpt: socket.SetReuseport, Opt: 1})
	}
	return opts
}

// setBacklog sets the backlog of a listening socket, if o has one. To listen again
// changes only the backlog.
func (o *Options) setBacklog(fd int) error {
	if o.Backlog == 0 {
		return nil
	}
	return os.NewSyscallError("listen", unix.Listen(fd, o.Backlog))
}
