//go:build linux && !poll_opt

package reactor

import (
	"os"

	"golang.org/x/sys/unix"
)

// Delete removes fd. Closing a descriptor does so only if no other descriptor
// refers to the same socket, in this process or in another.
func (p *poller) Delete(fd int) error {
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil))
}
