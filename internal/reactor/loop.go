// Package reactor is the event loop under the engine: one poller a loop, stream
// sockets registered once, edge-triggered, for reading and writing.
//
// A loop owns the descriptors registered with it: their handlers are called on
// the loop's goroutine, one at a time, and only there may they be unregistered
// and closed. Everybody else talks to a loop through Trigger. The poller is
// gnet's on kqueue, and ours with gnet's task queue on epoll (poll_epoll.go).
package reactor

import (
	"errors"
	"fmt"
	"net"
	"sync"

	errorx "github.com/panjf2000/gnet/v2/pkg/errors"
	"github.com/panjf2000/gnet/v2/pkg/queue"
)

// Event is a set of things that happened to a descriptor.
type Event uint8

const (
	// Readable: bytes (or a connection to accept) came since the last event.
	Readable Event = 1 << iota
	// Writable: a full socket has room again. It also comes along with other
	// events; the handler knows whether it was waiting.
	Writable
	// ToTheEnd: a short read doesn't mean that the descriptor is drained, from now
	// on. The peer ended its side, or the connection failed (reading to the end
	// tells which), or there is urgent data. No further event may come.
	ToTheEnd
)

// Handler is told what happened to its descriptor, on its loop.
type Handler interface {
	OnEvent(ev Event)
}

// Conn ties a descriptor to its Handler. It is embedded in the handler's own
// struct, so that registering costs no allocation.
type Conn struct {
	FD      int
	poll    pollData // not the last: Go would pad behind a field without size
	Handler Handler
	loop    *Loop // that it is registered with
}

// Task is a function that Trigger runs on a loop, with its argument. It returns
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

// Open returns a loop that is not running. Loops whose descriptors may be
// handed from one to another share a table.
func Open(table *Table) (*Loop, error) {
	p, err := openPoller()
	if err != nil {
		return nil, fmt.Errorf("reactor: open poller: %w", err)
	}
	l := &Loop{poller: p, table: table}
	if err := l.again.open(l); err != nil {
		_ = p.Close()
		return nil, err
	}
	return l, nil
}

// Run runs the loop on the calling goroutine until Stop, then closes the poller.
// Tasks triggered later are never run.
func (l *Loop) Run() error {
	err := l.run()
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
	l.again.close(l)
	return l.poller.Close()
}

// Stop makes Run return after the tasks triggered before it. It must be called at most once, and not after Run returned.
func (l *Loop) Stop() error {
	return l.Trigger(func(any) error { return errorx.ErrEngineShutdown }, nil)
}

// Trigger runs fn(arg) on the loop soon. It may be called from any goroutine,
// never blocks, and costs a system call only when the loop isn't awake for
// tasks already. With a pointer for arg and a plain function for fn it doesn't
// allocate. When the loop has ended it does nothing but return net.ErrClosed.
func (l *Loop) Trigger(fn Task, arg any) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return net.ErrClosed // its descriptors may be somebody else's by now
	}
	return l.poller.Trigger(queue.HighPriority, fn, arg)
}

// Register adds c's descriptor, which must be non-blocking, for both directions,
// edge-triggered. What is ready already is reported as an event. On the loop,
// or before Run.
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

// Remove is Unregister for a descriptor whose socket somebody else may have
// open as well: closing it would not remove it from the poller. On the loop.
func (l *Loop) Remove(c *Conn) {
	l.table.clear(c.FD)
	_ = l.poller.Delete(c.FD)
}

// Again calls h.OnEvent(Readable) after the other descriptors that are ready
// have had their turn: for a handler that used up its budget before its socket was
// drained. On the loop.
func (l *Loop) Again(h Handler) { l.again.push(h) }

// dispatch hands a poller's event to the descriptor's handler. An event of a
// descriptor that was closed earlier in the same batch finds no handler:
// registering happens in tasks, which run after the batch. While a child process
// is being started it holds every descriptor, so that closed ones may still
// cause events; their number may be another loop's by now.
func (l *Loop) dispatch(fd int, ev Event) {
	if c := l.table.get(fd); c != nil && c.loop == l {
		c.Handler.OnEvent(ev)
	}
}

// Read, Write, Writev, ShutdownWrite and CloseFD are the system calls on a stream
// socket of the loop. They may be called from any goroutine and do not block.

// Read reads into b. At the end of the stream it returns 0 and nil.
func (l *Loop) Read(fd int, b []byte) (int, error) { return Read(fd, b) }

// Write writes b, or as much as the socket takes.
func (l *Loop) Write(fd int, b []byte) (int, error) { return Write(fd, b) }

// Writev writes bufs by one system call, or as much as the socket takes.
func (l *Loop) Writev(fd int, bufs [][]byte) (int, error) { return Writev(fd, bufs) }

// ShutdownWrite ends the sending side.
func (l *Loop) ShutdownWrite(fd int) { ShutdownWrite(fd) }

// CloseFD closes a descriptor.
func (l *Loop) CloseFD(fd int) { Close(fd) }
