//go:build !linux || poll_opt

package reactor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// again calls the handlers that have more work. gnet's poller has no place for it in its
// rounds, so a byte in a pipe, and not a task, starts the next round: tasks that trigger
// tasks would run before the poller checks the sockets again.
type again struct {
	turns
	conn  Conn // the pipe's reading end
	write int
}

func (l *Loop) openAgain() error {
	a := &l.again
	r, w, err := pipe()
	if err != nil {
		return fmt.Errorf("reactor: pipe: %w", err)
	}
	a.write = w
	a.conn = Conn{FD: r, Handler: a}
	if err := l.Register(&a.conn); err != nil {
		_ = unix.Close(r)
		_ = unix.Close(w)
		return err
	}
	return nil
}

func (l *Loop) closeAgain() {
	a := &l.again
	l.Unregister(&a.conn)
	_ = unix.Close(a.conn.FD)
	_ = unix.Close(a.write)
}

// Again calls h.OnEvent(Readable) after the events of the other ready descriptors.
// It is for a handler that used up its budget before its socket was drained. On the
// loop.
func (l *Loop) Again(h Handler) {
	a := &l.again
	if a.push(h); len(a.queue) == 1 {
		_, _ = unix.Write(a.write, []byte{1}) // one byte for each round: the pipe can't be full
	}
}

// OnEvent runs a round. Handlers that are pushed meanwhile wait for the next one.
func (a *again) OnEvent(Event) {
	var buf [8]byte
	_, _ = unix.Read(a.conn.FD, buf[:])
	a.begin()
	for h := a.take(); h != nil; h = a.take() {
		h.OnEvent(Readable)
	}
}
