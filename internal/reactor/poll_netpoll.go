//go:build !linux && !poll_opt

package reactor

import "github.com/panjf2000/gnet/v2/pkg/netpoll"

// poller is gnet's, on kqueue.
type poller = netpoll.Poller

// pollData is the poller's part of a Conn. It is empty here, because this poller
// reports descriptors by number.
type pollData struct{}

func openPoller() (*poller, error) { return netpoll.OpenPoller() }

func (l *Loop) run() error {
	return l.poller.Polling(func(fd int, ev netpoll.IOEvent, flags netpoll.IOFlags) error {
		l.dispatch(fd, eventOf(ev, flags))
		return nil
	})
}

func (l *Loop) add(c *Conn) error {
	return l.poller.AddReadWrite(&netpoll.PollAttachment{FD: c.FD}, true)
}
