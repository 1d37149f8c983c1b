package bench

import (
	"runtime"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	readBufferSize = 256 << 10        // bytes a loop
	maxLatency     = 60 * time.Second // that the histogram holds
	pollMillis     = 50               // how soon a loop notices that the load ends
)

// A loop drives the sessions that it was given, on one thread. Its fields are
// its own once it runs, except replies.
type loop struct {
	load     *load
	epoll    int
	sessions []*session
	buffer   []byte
	latency  *hdr.Histogram
	verified int64        // replies so far
	replies  atomic.Int64 // verified, published for the load
	open     int          // sessions that haven't failed
	ended    bool         // the sessions were told that the load ends
}

// run opens every session's window and serves them until the load stops or,
// after its end, all replies are there.
func (l *loop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for i, s := range l.sessions {
		s.index = int32(i)
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.index}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &event); err != nil {
			s.failed = s.lost(err)
			continue
		}
		l.open++
		l.write(s)
	}
	events := make([]unix.EpollEvent, 256)
	for !l.load.stop.Load() && !l.finished() {
		n, err := unix.EpollWait(l.epoll, events, pollMillis)
		if err != nil && err != unix.EINTR {
			return // the sessions' missing replies tell
		}
		for i := range max(n, 0) {
			s := l.sessions[events[i].Fd]
			if events[i].Events&^unix.EPOLLOUT != 0 {
				l.read(s)
			}
			l.write(s)
		}
		l.replies.Store(l.verified)
	}
}

// finished reports whether nothing more will come: the load is over and every
// reply is there, or no session is left.
func (l *loop) finished() bool {
	if l.open == 0 {
		return true
	}
	if !l.load.ending.Load() {
		return false
	}
	if !l.ended {
		l.ended = true
		for _, s := range l.sessions {
			s.ending = true
		}
	}
	for _, s := range l.sessions {
		if s.failed == nil && (s.outstanding() || len(s.due()) > 0) {
			return false
		}
	}
	return true
}

// read verifies one read of s. More shows at the next epoll_wait.
func (l *loop) read(s *session) {
	if s.failed != nil {
		return
	}
	n, err := unix.Read(s.fd, l.buffer)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
		return
	case err != nil:
		l.fail(s, s.lost(err))
		return
	case n == 0:
		l.fail(s, s.lost(nil))
		return
	}
	before := s.replies()
	done, since, err := s.receive(l.buffer[:n])
	if err != nil {
		l.fail(s, err)
		return
	}
	l.verified += s.replies() - before
	if done && l.load.measuring.Load() {
		// Out of range is impossible within drainTimeout and Duration's minutes;
		// a sample lost there would only flatter p99.
		_ = l.latency.RecordValue(min(time.Since(since), maxLatency).Nanoseconds())
	}
}

// write writes what s may send.
func (l *loop) write(s *session) {
	if s.failed != nil {
		return
	}
	full := false
	for b := s.due(); len(b) > 0 && !full; b = s.due() {
		n, err := unix.Write(s.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			full = true
		case err != nil:
			l.fail(s, s.lost(err))
			return
		default:
			s.wrote(n, time.Now)
		}
	}
	if full != s.writing {
		l.watch(s, full)
	}
}

// watch waits for room to write too, or no longer.
func (l *loop) watch(s *session, writing bool) {
	s.writing = writing
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.index}
	if writing {
		event.Events |= unix.EPOLLOUT
	}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_MOD, s.fd, &event); err != nil {
		l.fail(s, s.lost(err))
	}
}

// fail ends s with err. Its descriptor stays open until the load is closed, so
// that its number isn't used again.
func (l *loop) fail(s *session, err error) {
	s.failed = err
	l.open--
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, s.fd, nil) // it is given up anyway
}
