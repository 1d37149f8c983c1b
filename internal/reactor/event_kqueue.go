//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package reactor

import (
	"github.com/panjf2000/gnet/v2/pkg/netpoll"
	"golang.org/x/sys/unix"
)

func eventOf(filter netpoll.IOEvent, flags netpoll.IOFlags) Event {
	var e Event
	switch filter {
	case unix.EVFILT_READ:
		e = Readable
	case unix.EVFILT_WRITE:
		e = Writable
	}
	if flags&(unix.EV_EOF|unix.EV_ERROR) != 0 {
		e |= Readable | ToTheEnd
	}
	return e
}
