//go:build poll_opt

package reactor

import "github.com/panjf2000/gnet/v2/pkg/netpoll"

// pollData is the poller's part of a Conn. gnet's poll_opt build stores the
// attachment's address in the kernel, where the garbage collector doesn't see it.
// The Conn, which the table references until Unregister, keeps it alive.
type pollData struct{ attachment netpoll.PollAttachment }

// poller is gnet's, in the build that keeps the attachment in the kernel.
type poller = netpoll.Poller

func openPoller() (*poller, error) { return netpoll.OpenPoller() }

func (l *Loop) run() error { return l.poller.Polling() }

func (l *Loop) add(c *Conn) error {
	c.poll.attachment = netpoll.PollAttachment{FD: c.FD, Callback: l.onPoll}
	return l.poller.AddReadWrite(&c.poll.attachment, true)
}

func (l *Loop) onPoll(fd int, ev netpoll.IOEvent, flags netpoll.IOFlags) error {
	l.dispatch(fd, eventOf(ev, flags))
	return nil
}
