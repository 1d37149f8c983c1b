package bench

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

const (
	readBufferSize  = 256 << 10 // bytes a loop
	plainBufferSize = 64 << 10  // bytes a loop, of decrypted data
	pollMillis      = 50        // after which a loop notices the end of the load
)

// A loop drives the sessions that it was given, on one thread.
type loop struct {
	tally
	load     *load
	epoll    int
	sessions []*session
	timers   timers
	buffer   []byte
	plain    []byte
	verified int64 // replies so far
	taken    int64 // their bytes
	open     int   // sessions that haven't failed
	ended    bool  // the sessions have been ended
}

// run opens every session's window and serves them until the load stops or,
// after its end, all replies are there.
func (l *loop) run() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if l.load.cfg.Rate > 0 {
		// Wake up when a request is due, not 50 us later. If this fails, wake-ups are late.
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
		defer func() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) }()
	}
	for i, s := range l.sessions {
		s.index = int32(i)
		l.open++
		event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: s.index}
		if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, s.fd, &event); err != nil {
			l.fail(s, s.lost(err))
			continue
		}
		l.timers.update(s)
	}
	events := make([]unix.EpollEvent, 256)
	for !l.load.stop.Load() && !l.finished() {
		l.wakeTimers()
		n, err := l.wait(events)
		if err != nil && err != unix.EINTR {
			return // the missing replies show it
		}
		for i := range max(n, 0) {
			s := l.sessions[events[i].Fd]
			if events[i].Events&^unix.EPOLLOUT != 0 {
				l.read(s)
			}
			l.write(s)
		}
		l.replies.Store(l.verified)
		l.bytes.Store(l.taken)
	}
}

// wakeTimers writes the sessions whose timers are due.
func (l *loop) wakeTimers() {
	for len(l.timers) > 0 && !l.ended && l.timers[0].wakeAt() <= l.load.now() {
		s := l.timers[0]
		s.started = true
		l.write(s)
	}
}

// wait waits for events until the next timer. epoll_wait counts milliseconds,
// so for shorter times it polls the epoll descriptor itself.
func (l *loop) wait(events []unix.EpollEvent) (int, error) {
	if len(l.timers) == 0 || l.ended {
		return unix.EpollWait(l.epoll, events, pollMillis)
	}
	n, err := unix.EpollWait(l.epoll, events, 0)
	if n > 0 || err != nil {
		return n, err
	}
	sleep := min(l.timers[0].wakeAt()-l.load.now(), pollMillis*int64(time.Millisecond))
	if sleep <= 0 {
		return 0, nil
	}
	timeout := unix.NsecToTimespec(sleep)
	if n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(l.epoll), Events: unix.POLLIN}}, &timeout, nil); n <= 0 {
		return 0, err
	}
	return unix.EpollWait(l.epoll, events, 0)
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
			s.end(l.load.to.Load())
			l.write(s)
		}
	}
	for _, s := range l.sessions {
		if s.failed == nil && (s.outstanding() || len(s.due(l.load.now)) > 0) {
			return false
		}
	}
	return true
}

// read verifies one read of s. Further bytes cause another epoll_wait event.
func (l *loop) read(s *session) {
	if s.failed != nil {
		return
	}
	n, err := unix.Read(s.fd, l.buffer)
	switch {
	case err == unix.EAGAIN || err == unix.EINTR:
	case err != nil:
		l.fail(s, s.lost(err))
	case n == 0:
		l.fail(s, s.lost(nil))
	case s.secure != nil:
		l.decrypt(s, l.buffer[:n])
	default:
		l.receive(s, l.buffer[:n])
	}
}

// decrypt verifies the plaintext of ciphertext. It uses all of it, because the next
// session uses the same buffer.
func (l *loop) decrypt(s *session, ciphertext []byte) {
	s.secure.wire.in = ciphertext
	for s.failed == nil {
		n, err := s.secure.tls.Read(l.plain)
		if n > 0 {
			l.receive(s, l.plain[:n])
		}
		if err == errWouldBlock {
			return
		}
		if err != nil && s.failed == nil {
			l.fail(s, s.lost(err))
		}
	}
}

func (l *loop) receive(s *session, b []byte) {
	before := s.answered
	if f := s.receive(b); f != nil {
		l.fail(s, f)
		return
	}
	l.verified += s.answered - before
	l.taken += int64(len(b))
	l.record(l.load, s, before)
}

// write writes the bytes that s may send.
func (l *loop) write(s *session) {
	if s.failed != nil {
		return
	}
	full := false
	for b := l.outgoing(s); len(b) > 0 && !full; b = l.outgoing(s) {
		n, err := unix.Write(s.fd, b)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			full = true
		case err != nil:
			l.fail(s, s.lost(err))
			return
		case s.secure != nil:
			s.secure.wire.out = b[:copy(b, b[n:])] // b is all of it
		default:
			s.wrote(n, l.load.now)
		}
	}
	if full != s.writing {
		l.watch(s, full)
	}
	if s.timer >= 0 || s.schedule != nil {
		l.timers.update(s)
	}
}

// outgoing returns the bytes that may be written to the socket of s now: bytes of the
// script, or their ciphertext.
func (l *loop) outgoing(s *session) []byte {
	if s.secure == nil {
		return s.due(l.load.now)
	}
	if len(s.secure.wire.out) == 0 {
		b := s.due(l.load.now)
		b = b[:min(len(b), maxRecords)]
		if len(b) > 0 {
			s.wrote(len(b), l.load.now)
			if _, err := s.secure.tls.Write(b); err != nil {
				l.fail(s, s.lost(err))
				return nil
			}
		}
	}
	return s.secure.wire.out
}

// watch starts or stops waiting for space to write.
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

// fail ends s with f. Its descriptor stays open until the load is closed, so
// that its number isn't used again.
func (l *loop) fail(s *session, f *fault) {
	if s.failed != nil {
		return
	}
	s.failed = f
	l.open--
	l.load.failures.Add(1)
	l.timers.update(s)
	_ = unix.EpollCtl(l.epoll, unix.EPOLL_CTL_DEL, s.fd, nil) // it is given up anyway
}
