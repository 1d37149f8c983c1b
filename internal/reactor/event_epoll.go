//go:build linux

package reactor

import (
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

func eventOf(ev netpoll.IOEvent, _ netpoll.IOFlags) Event {
	var e Event
	if ev&(unix.EPOLLIN|unix.EPOLLPRI) != 0 {
		e |= Readable
	}
	if ev&unix.EPOLLOUT != 0 {
		e |= Writable
	}
	if ev&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e |= Readable | Hangup
	}
	return e
}
