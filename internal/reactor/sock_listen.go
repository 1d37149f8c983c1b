package reactor

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/panjf2000/gnet/v2/pkg/socket"
	"golang.org/x/sys/unix"
)

// ListenTCP binds addr ("host:port") and listens. It returns the non-blocking
// descriptor, which the caller owns, and the bound address.
func ListenTCP(addr string, o *Options) (int, netip.AddrPort, error) {
	fd, _, err := socket.TCPSocket("tcp", addr, true, o.beforeBind(true), nil)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	bound, err := LocalAddr(fd)
	if err = errors.Join(err, o.setBacklog(fd)); err != nil {
		_ = unix.Close(fd)
		return -1, netip.AddrPort{}, err
	}
	return fd, bound, nil
}

// ListenUnix binds the Unix socket name, a path or an abstract name that begins
// with '@' (Linux), and listens. It fails if a file or socket with that name
// exists.
func ListenUnix(name string, o *Options) (int, error) {
	fd, _, err := socket.UnixSocket("unix", name, true, o.beforeBind(false), nil)
	if err != nil {
		return -1, err
	}
	if err := o.setBacklog(fd); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// Adopted is a listening socket that was opened elsewhere.
type Adopted struct {
	FD    int            // a non-blocking duplicate, which the caller owns
	Local netip.AddrPort // the zero AddrPort for a Unix socket
	Unix  bool
	Name  string // of a Unix socket: its path, or an abstract name that begins with '@'
}

// Adopt duplicates fd, which must be a listening stream socket of TCP or Unix. The
// caller still owns fd, but it becomes non-blocking, because both descriptors share
// that flag.
func Adopt(fd int, o *Options) (a Adopted, err error) {
	if err := listening(fd); err != nil {
		return a, err
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return a, os.NewSyscallError("getsockname", err)
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		a.Local = addrPort(sa)
	case *unix.SockaddrUnix:
		a.Unix, a.Name = true, sa.Name
	default:
		return a, fmt.Errorf("an address of type %T is neither TCP's nor a Unix socket's: %w", sa, errors.ErrUnsupported)
	}
	if a.FD, err = Dup(fd); err != nil {
		return a, err
	}
	err = errors.Join(os.NewSyscallError("fcntl", unix.SetNonblock(a.FD, true)), o.Apply(a.FD, !a.Unix), o.setBacklog(a.FD))
	if err != nil {
		_ = unix.Close(a.FD)
	}
	return a, err
}

// listening reports why fd isn't a listening stream socket.
func listening(fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if kind != unix.SOCK_STREAM {
		return fmt.Errorf("the socket is not of type SOCK_STREAM: %w", errors.ErrUnsupported)
	}
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if on == 0 {
		return fmt.Errorf("the socket doesn't listen: %w", unix.EINVAL)
	}
	return nil
}

// Dup duplicates fd, close-on-exec.
func Dup(fd int) (int, error) {
	d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("fcntl", err)
	}
	return d, nil
}

// RemoteAddr returns the address of fd's peer, the zero AddrPort if it has none.
func RemoteAddr(fd int) netip.AddrPort {
	sa, err := unix.Getpeername(fd)
	if err != nil {
		return netip.AddrPort{}
	}
	return addrPort(sa)
}
