//go:build linux && !poll_opt

package reactor

import (
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"unsafe"

	errorx "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/queue"
	"golang.org/x/sys/unix"
)

const (
	// maxEvents is how many events one epoll_wait takes. It bounds the length of a round.
	maxEvents = 128
	// maxTasks is how many tasks run before the poller checks the sockets again.
	maxTasks = 1024
)

// poller is an epoll instance with gnet's task queue. It differs from gnet's poller
// on Linux in one point: after a poll without events it sleeps at once, and doesn't
// yield to the Go scheduler first. So its goroutine can be locked to its thread,
// and wakes without a thread switch. With one message in flight for each session
// this saves 13 % of the server's CPU time, and is as fast as a bare epoll loop.
type poller struct {
	fd    int
	wake  int          // an eventfd: there are tasks
	woken atomic.Int32 // 1 from a write to wake until the loop runs tasks
	tasks queue.AsyncTaskQueue

	// Owned by the goroutine that runs the loop at the moment.
	events      []unix.EpollEvent // of the last poll
	next, ready int               // events[next:ready] are not yet handled
	tasksDue    bool
	stopped     bool

	recalled atomic.Bool // Substitute is to return

	parked syscall.RawConn // of the epoll descriptor; set by RunParked
}

// again is the loop's list of handlers that have more work. Its rounds are those of the
// loop, so it needs no descriptors.
type again struct{ turns }

func (*Loop) openAgain() error { return nil }
func (*Loop) closeAgain()      {}

// pollData is the poller's part of a Conn. It is empty here, because this poller
// reports descriptors by number.
type pollData struct{}

func openPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	p := &poller{fd: fd, wake: -1, tasks: queue.NewLockFreeQueue(), events: make([]unix.EpollEvent, maxEvents)}
	if p.wake, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	if err := p.ctlAdd(p.wake, unix.EPOLLIN|unix.EPOLLET); err != nil {
		_ = p.Close()
		return nil, err
	}
	return p, nil
}

// Close releases the poller's descriptors.
func (p *poller) Close() error {
	return errors.Join(os.NewSyscallError("close", unix.Close(p.wake)), os.NewSyscallError("close", unix.Close(p.fd)))
}

func (p *poller) ctlAdd(fd int, events uint32) error {
	return os.NewSyscallError("epoll_ctl",
		unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Fd: int32(fd), Events: events}))
}

// Trigger queues a task and wakes the loop; all tasks have one priority here.
func (p *poller) Trigger(_ queue.EventPriority, fn queue.Func, arg any) error {
	t := queue.GetTask()
	t.Exec, t.Param = fn, arg
	p.tasks.Enqueue(t)
	return p.ring()
}

// ring wakes the loop, unless it was woken already and has not run its tasks since.
// The eventfd is edge-triggered, so it need not be read; only 2^64 writes would
// fill it.
func (p *poller) ring() error {
	if !p.woken.CompareAndSwap(0, 1) {
		return nil
	}
	return p.signal()
}

// signal makes the next poll, or the present one, return.
func (p *poller) signal() error {
	one := [8]byte{1} // the counter's byte order doesn't matter
	_, err := unix.Write(p.wake, one[:])
	return os.NewSyscallError("write", err)
}

// wait is epoll_wait. A call that does not sleep bypasses the Go scheduler, as in sock_raw.go.
func (p *poller) wait(timeout int) (int, error) {
	switch {
	case timeout == 0:
	case p.parked != nil:
		return p.park()
	default:
		return unix.EpollWait(p.fd, p.events, timeout)
	}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), 0, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// park is wait without a bound, by Go's own poller.
func (p *poller) park() (n int, err error) {
	if failed := p.parked.Read(func(uintptr) bool {
		n, err = p.wait(0)
		return n != 0 || err != nil
	}); failed != nil {
		return 0, failed
	}
	return n, err
}

func (l *Loop) add(c *Conn) error {
	return l.poller.ctlAdd(c.FD, unix.EPOLLIN|unix.EPOLLPRI|unix.EPOLLOUT|unix.EPOLLRDHUP|unix.EPOLLET)
}

func (l *Loop) run() error { return l.rounds(nil) }

// RunParked is Run for a loop beside other goroutines that do most of the work: it
// sleeps in Go's poller, to which the epoll descriptor is one more descriptor, and not
// in a system call. So it needs no thread of its own and no place among the GOMAXPROCS
// running goroutines. Without a spare descriptor it is Run. It exists on Linux only.
func (l *Loop) RunParked() error {
	fd, err := unix.FcntlInt(uintptr(l.poller.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return l.Run()
	}
	_ = unix.SetNonblock(fd, true) // else package os takes it for a file that blocks
	f := os.NewFile(uintptr(fd), "epoll")
	defer func() { _ = f.Close() }()
	if l.poller.parked, err = f.SyscallConn(); err != nil {
		return l.finish(err)
	}
	return l.finish(l.rounds(nil))
}

// RunRounds is Run that tells r of the rounds. While the goroutine is in a call of a
// Handler, a Task or r, it may let another one run Substitute. The two must hand the loop
// over with synchronisation, and never use it at the same time. It exists on Linux only:
// gnet's poller for kqueue keeps its events in variables of its own.
func (l *Loop) RunRounds(r Rounds) error { return l.finish(l.rounds(r)) }

func (l *Loop) rounds(r Rounds) error {
	if l.poller.parked == nil {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
	}
	p := l.poller
	for more := false; ; {
		if err := l.poll(!more, r); err != nil {
			return err
		}
		if r != nil {
			r.RoundBegins()
		}
		l.handle()
		if p.stopped {
			return errorx.ErrEngineShutdown
		}
		if r != nil {
			more = r.RoundEnds()
		}
	}
}

// Substitute handles events, tasks and repeated calls for a goroutine in RunRounds that is
// in a call and cannot do so: first those that it has left, then rounds, until Recall or
// Stop. It blocks until then.
func (l *Loop) Substitute() error {
	p := l.poller
	p.tasksDue = true
	for l.handle(); !p.recalled.Load() && !p.stopped; l.handle() {
		if err := l.poll(true, nil); err != nil {
			return err
		}
	}
	return nil
}

// Recall makes Substitute return after the event or task that it is handling. It may be
// called from any goroutine and does not block. It always wakes the loop: a goroutine that
// is about to do so, and marks it as woken, may not run for a while.
func (l *Loop) Recall() {
	l.poller.recalled.Store(true)
	_ = l.poller.signal()
}

// Recalled is to be called when Substitute has returned, before another one.
func (l *Loop) Recalled() { l.poller.recalled.Store(false) }

// poll begins a round: it gets the next events. If there are none and sleep is set, it
// sleeps until there are some, unless r, which may be nil, does not agree. A recalled
// substitute may have left some of its round; then it gets no others.
func (l *Loop) poll(sleep bool, r Rounds) error {
	p := l.poller
	if p.next < p.ready || p.tasksDue {
		return nil
	}
	for timeout := 0; ; {
		n, err := p.wait(timeout)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("epoll_wait", err)
		case n > 0 || !sleep || l.again.pending() || timeout == 0 && r != nil && !r.MaySleep():
			p.next, p.ready = 0, n
			l.again.begin()
			return nil
		default:
			timeout = -1
		}
	}
}

// handle calls the handlers of the polled events, then runs the tasks and the repeated
// calls. All that it uses is in the loop, so that Substitute can go on in the middle.
func (l *Loop) handle() {
	p := l.poller
	for p.next < p.ready && !p.recalled.Load() {
		ev := &p.events[p.next]
		p.next++
		if int(ev.Fd) == p.wake {
			p.tasksDue = true
			continue
		}
		l.dispatch(int(ev.Fd), eventOf(ev.Events, 0))
	}
	if p.tasksDue && !p.recalled.Load() {
		p.tasksDue = false
		p.runTasks()
	}
	for !p.recalled.Load() && !p.stopped {
		h := l.again.take()
		if h == nil {
			return
		}
		h.OnEvent(Readable)
	}
}

// Again calls h.OnEvent(Readable) after the events of the other ready descriptors.
// It is for a handler that used up its budget before its socket was drained. On the
// loop.
func (l *Loop) Again(h Handler) { l.again.push(h) }

// runTasks runs the queued tasks, after the events of the round. If more than maxTasks are
// queued, or the substitute that runs them is recalled, it wakes the loop again for the
// rest. So a flood of tasks doesn't starve the sockets.
func (p *poller) runTasks() {
	p.woken.Store(0)
	for range maxTasks {
		t := p.tasks.Dequeue()
		if t == nil {
			return
		}
		if err := t.Exec(t.Param); errors.Is(err, errorx.ErrEngineShutdown) {
			p.stopped = true
		}
		queue.PutTask(t)
		if p.stopped {
			return
		}
		if p.recalled.Load() {
			break
		}
	}
	if !p.tasks.IsEmpty() {
		_ = p.ring()
	}
}
