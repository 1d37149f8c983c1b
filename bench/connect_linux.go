package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// dial connects to t and makes its handshakes, if it has any. It returns a
// descriptor that belongs to the caller.
func dial(ctx context.Context, t target, sessions int, cfg *tls.Config) (fd int, secure *secureConn, err error) {
	dialer := net.Dialer{LocalAddr: source(t, sessions)}
	socket, err := dialer.DialContext(ctx, t.network(), t.addr)
	if err != nil {
		return -1, nil, err
	}
	defer socket.Close() // detach returns a descriptor of its own
	conn := socket
	if t.secure() {
		secure = &secureConn{wire: &wire{Conn: socket}}
		secure.tls = tls.Client(secure.wire, cfg)
		conn = secure.tls
		if err := secure.tls.HandshakeContext(ctx); err != nil {
			return -1, nil, err
		}
	}
	if t.websocket() {
		if err := upgrade(ctx, conn, t); err != nil {
			return -1, nil, err
		}
	}
	fd, err = detach(socket)
	if secure != nil {
		secure.wire.buffered = true
	}
	return fd, secure, err
}

// detach takes conn's socket away from Go's own poller, which would be woken
// for each of its events as well.
func detach(conn net.Conn) (fd int, err error) {
	raw, err := conn.(syscall.Conn).SyscallConn()
	if err != nil {
		return -1, err
	}
	ctlErr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(ctlErr, err)
}
