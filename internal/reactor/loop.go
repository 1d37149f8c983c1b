// Package reactor is the event loop of the engine. Each loop has one poller. Stream
// sockets are registered once, edge-triggered, for reading and writing.
//
// A loop owns the descriptors registered with it: it calls their handlers on its
// goroutine, one at a time, and only there may they be unregistered and closed.
// Other goroutines use Trigger. On kqueue the poller is gnet's. On epoll it is our
// own with gnet's task queue (poll_epoll.go).
package reactor

import (
	"errors"
	"fmt"
	"net"
	"sync"

	errorx "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/queue"
)

// Event is a set of changes of a descriptor.
type Event uint8

const (
	// Readable: bytes (or a connection to accept) have arrived since the last
	// event.
	Readable Event = 1 << iota
	// Writable: a full socket has space again. It is also set with other events, so
	// the handler must check whether it was waiting.
	Writable
	// ToTheEnd: from now on a short read doesn't mean that the descriptor is
	// drained. The peer ended its side, or the connection failed (a read up to the
	// end shows which), or there is urgent data. There may be no further event.
	ToTheEnd
)

// Handler handles the events of its descriptor. Its loop calls it, on the loop's
// goroutine.
type Handler interface {
	OnEvent(ev Event)
}

// Conn ties a descriptor to its Handler. It is embedded in the handler's own
// struct, so that registering costs no allocation.
type Conn struct {
	FD      int
	poll    pollData // not the last: Go would add padding after a field of size 0
	Handler Handler
	loop    *Loop // with which it is registered
}

// Task is a function that Trigger runs on a loop, with its argument. It must return
// nil (the signature is the poller's).
type Task = queue.Func

// Loop is an event loop.
type Loop struct {
	poller *poller
	table  *Table
	again  again

	mu     sync.RWMutex // guards closed: held while Trigger uses the poller's descriptors
	closed bool
}

// Open returns a loop that is not running. Loops that pass descriptors from one to
// another must share a table.
func Open(table *Table) (*Loop, error) {
	p, err := openPoller()
	if err != nil {
		return nil, fmt.Errorf("reactor: open poller: %w", err)
	}
	l := &Loop{poller: p, table: table}
	if err := l.openAgain(); err != nil {
		_ = p.Close()
		return nil, err
	}
	return l, nil
}

// Rounds is told when a loop's rounds begin and end. A round is a poll and the events,
// tasks and repeated calls (Again) that it leads to.
type Rounds interface {
	// RoundBegins is called after a poll, before the first event.
	RoundBegins()
	// MaySleep is called when a poll has found nothing, before the loop sleeps. If it
	// returns false, the round goes on without events.
	MaySleep() bool
	// RoundEnds is called after the round. If it returns true, the next poll does not
	// sleep.
	RoundEnds() (more bool)
}

// Run runs the loop on the calling goroutine until Stop, then closes the poller.
// Tasks triggered later are never run.
func (l *Loop) Run() error { return l.finish(l.run()) }

// finish closes a loop that has ended with err.
func (l *Loop) finish(err error) error {
	closeErr := l.Close()
	if errors.Is(err, errorx.ErrEngineShutdown) {
		err = nil
	}
	return errors.Join(err, closeErr)
}

// Close releases a loop that was never run.
func (l *Loop) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.closeAgain()
	return l.poller.Close()
}

// Stop makes Run return after the tasks that were triggered before it. It must be
// called at most once, and not after Run has returned. It may be called from any
// goroutine and does not block.
func (l *Loop) Stop() error {
	return l.Trigger(func(any) error { return errorx.ErrEngineShutdown }, nil)
}

// Trigger queues fn(arg) to run on the loop. It may be called from any goroutine,
// never blocks, and needs a system call only if the loop isn't already woken for
// tasks. If arg is a pointer and fn a plain function, it doesn't allocate. After
// the loop has ended it returns net.ErrClosed.
func (l *Loop) Trigger(fn Task, arg any) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return net.ErrClosed // its descriptor numbers may be in use again
	}
	return l.poller.Trigger(queue.HighPriority, fn, arg)
}

// Register adds c's descriptor, which must be non-blocking, for both directions,
// edge-triggered. If it is ready already, that is reported as an event. On the
// loop, or before Run.
func (l *Loop) Register(c *Conn) error {
	c.loop = l
	if err := l.table.set(c.FD, c); err != nil {
		return err
	}
	if err := l.add(c); err != nil {
		l.table.clear(c.FD)
		return fmt.Errorf("reactor: register: %w", err)
	}
	return nil
}

// Unregister forgets c's descriptor: no event reaches its handler any more. The
// caller closes the descriptor right after, which removes it from the poller
// as well. On the loop.
func (l *Loop) Unregister(c *Conn) { l.table.clear(c.FD) }

// Remove is Unregister for a descriptor whose socket may also be open elsewhere:
// then closing the descriptor would not remove it from the poller. On the loop.
func (l *Loop) Remove(c *Conn) {
	l.table.clear(c.FD)
	_ = l.poller.Delete(c.FD)
}

// dispatch passes a poller's event to the descriptor's handler. For a descriptor
// that was closed earlier in the same batch there is no handler, because
// descriptors are registered in tasks, which run after the batch. A child process
// that is being started holds every descriptor, so closed ones may still cause
// events. Their number may then belong to another loop.
func (l *Loop) dispatch(fd int, ev Event) {
	if c := l.table.get(fd); c != nil && c.loop == l {
		c.Handler.OnEvent(ev)
	}
}

// Read, Write, Writev, ShutdownWrite, ShutdownBoth and CloseFD are the system calls on a stream
// socket of the loop. They may be called from any goroutine and do not block.

// Read reads into b. At the end of the stream it returns 0 and nil.
func (l *Loop) Read(fd int, b []byte) (int, error) { return Read(fd, b) }

// Write writes b, or as much as the socket takes.
func (l *Loop) Write(fd int, b []byte) (int, error) { return Write(fd, b) }

// Writev writes bufs by one system call, or as much as the socket takes.
func (l *Loop) Writev(fd int, bufs [][]byte) (int, error) { return Writev(fd, bufs) }

// ShutdownWrite ends the sending side.
func (l *Loop) ShutdownWrite(fd int) { ShutdownWrite(fd) }

// ShutdownBoth ends both sides. The peer sees the end, and the descriptor stays open.
func (l *Loop) ShutdownBoth(fd int) { ShutdownBoth(fd) }

// CloseFD closes a descriptor.
func (l *Loop) CloseFD(fd int) { Close(fd) }
