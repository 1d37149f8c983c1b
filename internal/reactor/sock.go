package reactor

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/panjf2000/gnet/v2/pkg/socket"
	"golang.org/x/sys/unix"
)

// Accept accepts one connection: a non-blocking, close-on-exec descriptor and
// the peer's address. unix.EAGAIN means that none is waiting.
func Accept(listener int) (int, netip.AddrPort, error) {
	for {
		fd, sa, err := socket.Accept(listener)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, netip.AddrPort{}, errno(err)
		}
		return fd, addrPort(sa), nil
	}
}

// errno unwraps a system call's error.
func errno(err error) error {
	var e unix.Errno
	if errors.As(err, &e) {
		return e
	}
	return err
}

// LocalAddr returns the address that fd is bound to.
func LocalAddr(fd int) (netip.AddrPort, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	return addrPort(sa), nil
}

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		a := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 && a.Is6() {
			if ifi, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				a = a.WithZone(ifi.Name)
			}
		}
		return netip.AddrPortFrom(a, uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// Take returns a non-blocking duplicate of conn's descriptor and closes conn. The
// caller owns the duplicate.
func Take(conn net.Conn) (int, error) {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("reactor: %T has no descriptor: %w", conn, errors.ErrUnsupported)
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	var dupErr error
	err = raw.Control(func(orig uintptr) {
		fd, dupErr = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err = errors.Join(err, os.NewSyscallError("fcntl", dupErr)); err != nil {
		return -1, err
	}
	return fd, conn.Close()
}

// Read reads into b. 0 with a nil error is the end of the stream; unix.EAGAIN means
// that no bytes have arrived.
func Read(fd int, b []byte) (int, error) {
	for {
		n, err := read(fd, b)
		if err == unix.EINTR {
			continue
		}
		return n, err
	}
}

// Write writes b; a short count is no error.
func Write(fd int, b []byte) (int, error) {
	for {
		n, err := write(fd, b)
		if err == unix.EINTR {
			continue
		}
		return n, err
	}
}

// ShutdownWrite ends this side of the connection: the peer reads the data
// written before, and then the end of the stream.
func ShutdownWrite(fd int) { _ = unix.Shutdown(fd, unix.SHUT_WR) }

// ShutdownBoth ends both sides of the connection.
func ShutdownBoth(fd int) { _ = unix.Shutdown(fd, unix.SHUT_RDWR) }

// Close closes fd.
func Close(fd int) { _ = unix.Close(fd) }

// AcceptRetryable reports whether accept failed for a temporary reason, so that the
// listener can continue. busy is true if the machine lacks a resource; then the
// caller should wait before the next attempt (accept(2), ERRORS).
func AcceptRetryable(err error) (retry, busy bool) {
	switch err {
	case unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM:
		return true, true
	case unix.ECONNABORTED, unix.EPERM, unix.EPROTO, unix.ENETDOWN, unix.ENOPROTOOPT, unix.EHOSTDOWN,
		unix.EHOSTUNREACH, unix.EOPNOTSUPP, unix.ENETUNREACH, unix.ETIMEDOUT, unix.ECONNRESET:
		return true, false
	}
	return false, false
}
