package main

import (
	"fmt"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

// readBufferSize is the engine's default (engine.DefaultReadBufferSize): the
// floor must make the same system calls.
const readBufferSize = 64 << 10

// A loop serves the connections that it was given. Its fields belong to its
// goroutine, except epoll, which the acceptor adds connections to.
type loop struct {
	epoll   int
	buffer  []byte
	pending map[int32][]byte // bytes that a full socket didn't take, by connection
}

// serve assigns listener's connections to loops in turn, so that each core has the same
// number.
func serve(listener net.Listener, cores int) error {
	loops := make([]*loop, cores)
	failed := make(chan error, cores+1)
	for i := range loops {
		epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return fmt.Errorf("epoll_create: %w", err)
		}
		loops[i] = &loop{epoll: epoll, buffer: make([]byte, readBufferSize), pending: map[int32][]byte{}}
		go func() { failed <- loops[i].run() }()
	}
	go func() { failed <- accept(listener, loops) }()
	return <-failed
}

func accept(listener net.Listener, loops []*loop) error {
	for i := 0; ; i++ {
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		fd, err := detach(conn.(*net.TCPConn))
		if err != nil {
			return err
		}
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
		if err := unix.EpollCtl(loops[i%len(loops)].epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
			return fmt.Errorf("epoll_ctl: %w", err)
		}
	}
}

// detach takes conn's socket away from Go's own poller, which would otherwise
// be woken for each of its events as well.
func detach(conn *net.TCPConn) (fd int, err error) {
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	if ctlErr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); ctlErr != nil {
		return -1, ctlErr
	}
	return fd, err
}

// run echoes until epoll fails.
func (l *loop) run() error {
	runtime.LockOSThread()
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(l.epoll, events, -1)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("epoll_wait: %w", err)
		}
		for _, event := range events[:n] {
			if event.Events&unix.EPOLLOUT != 0 {
				l.flush(event.Fd)
			} else {
				l.echo(event.Fd)
			}
		}
	}
}

// echo writes back one read. A longer input shows up at the next epoll_wait.
func (l *loop) echo(fd int32) {
	n, err := unix.Read(int(fd), l.buffer)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil || n == 0:
		l.close(fd)
		return
	}
	l.write(fd, l.buffer[:n])
}

// write writes b, and keeps the bytes that the socket doesn't accept. The connection
// isn't read until these are written, so no connection has more than one buffer of
// unwritten bytes.
func (l *loop) write(fd int32, b []byte) {
	n, err := unix.Write(int(fd), b)
	if err == unix.EAGAIN || err == unix.EINTR {
		n, err = 0, nil
	}
	if err != nil {
		l.close(fd)
		return
	}
	waiting := len(l.pending[fd]) > 0
	if n < len(b) {
		l.pending[fd] = append([]byte(nil), b[n:]...)
	} else if waiting {
		delete(l.pending, fd)
	}
	if want := n < len(b); want != waiting {
		l.watch(fd, want)
	}
}

// flush writes the bytes that write kept.
func (l *loop) flush(fd int32) {
	l.write(fd, l.pending[fd])
}

// watch waits for space to write instead of bytes to read, or the other way
// round.
func (l *loop) watch(fd int32, writing bool) {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: fd}
	if writing {
		event.Events = unix.EPOLLOUT
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, int(fd), &event); err != nil {
		l.close(fd)
	}
}

// close forgets the connection. Closing its only descriptor takes it out of
// epoll.
func (l *loop) close(fd int32) {
	delete(l.pending, fd)
	unix.Close(int(fd))
}
