package reactor

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// again is a loop's queue of handlers that have more work. A pipe in the poller,
// and not a task, starts the next round: tasks that trigger tasks would run before
// the poller checks the sockets again.
type again struct {
	conn  Conn // the pipe's reading end
	write int
	queue []Handler
	spare []Handler // the last round's queue, to reuse its memory
}

func (a *again) open(l *Loop) error {
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

func (a *again) close(l *Loop) {
	l.Unregister(&a.conn)
	_ = unix.Close(a.conn.FD)
	_ = unix.Close(a.write)
}

func (a *again) push(h Handler) {
	a.queue = append(a.queue, h)
	if len(a.queue) == 1 {
		_, _ = unix.Write(a.write, []byte{1}) // one byte for each round: the pipe can't be full
	}
}

// OnEvent runs a round. Handlers that are pushed meanwhile wait for the next one.
func (a *again) OnEvent(Event) {
	var buf [8]byte
	_, _ = unix.Read(a.conn.FD, buf[:])
	round := a.queue
	a.queue = a.spare[:0]
	for i, h := range round {
		round[i] = nil
		h.OnEvent(Readable)
	}
	a.spare = round[:0]
}
