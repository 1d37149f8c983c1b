//go:build !linux

package reactor

import (
	"syscall"

	"golang.org/x/sys/unix"
)

func pipe() (r, w int, err error) {
	var p [2]int
	syscall.ForkLock.RLock() // no child process may inherit the pipe before CloseOnExec
	err = unix.Pipe(p[:])
	if err == nil {
		unix.CloseOnExec(p[0])
		unix.CloseOnExec(p[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, -1, err
	}
	for _, fd := range p {
		if err := unix.SetNonblock(fd, true); err != nil {
			_ = unix.Close(p[0])
			_ = unix.Close(p[1])
			return -1, -1, err
		}
	}
	return p[0], p[1], nil
}
