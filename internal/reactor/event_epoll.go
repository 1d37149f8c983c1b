//go:build linux

package reactor

import (
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

func eventOf(ev netpoll.IOEvent, _ netpoll.IOFlags) Event {
	var e Event
	if ev&unix.EPOLLIN != 0 {
		e |= Readable
	}
	if ev&unix.EPOLLOUT != 0 {
		e |= Writable
	}
	// A read stops before urgent data (tcp(7)), although more data follows.
	if ev&(unix.EPOLLPRI|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e |= Readable | ToTheEnd
	}
	return e
}
