package engine

import (
	"net/netip"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/reactor"
)

// runAcceptor is the goroutine that accepts for all listeners: a loop of its
// own, so that no handler and no socket ever delays it.
func runAcceptor(e *Engine, parked bool) {
	defer e.running.Done()
	if err := run(e.acceptor, parked); err != nil {
		e.cfg.Logger.Error("acceptor ended", "error", err)
	}
	for _, l := range e.listeners {
		_ = closeListenerTask(l)
	}
}

func registerListenerTask(arg any) error {
	l := arg.(*Listener)
	if l.conn.FD < 0 {
		return nil
	}
	l.conn.Handler = (*accepting)(l)
	if err := l.engine.acceptor.Register(&l.conn); err != nil {
		l.engine.cfg.Logger.Error("listener not registered", "addr", l.String(), "error", err)
	}
	return nil
}

// accepting is a Listener as a handler of the acceptor's loop.
type accepting Listener

// OnEvent accepts the waiting connections.
func (a *accepting) OnEvent(reactor.Event) {
	l := (*Listener)(a)
	for range acceptBatch {
		if l.conn.FD < 0 {
			return
		}
		fd, remote, err := reactor.Accept(l.conn.FD)
		if err != nil {
			l.acceptFailed(err)
			return
		}
		l.backoff = 0
		l.accepted(fd, remote)
	}
	l.engine.acceptor.Again(a)
}

// acceptFailed handles a failed accept. The listener is registered edge-triggered, so
// after a failure accept must be tried again without an event.
func (l *Listener) acceptFailed(err error) {
	if err == syscall.EAGAIN {
		return
	}
	l.engine.countAcceptError(err)
	retry, busy := reactor.AcceptRetryable(err)
	switch {
	case !retry:
		l.engine.cfg.Logger.Error("accept failed", "addr", l.String(), "error", err)
		fallthrough
	case busy:
		if l.backoff == 0 {
			l.engine.cfg.Logger.Warn("accepting pauses", "addr", l.String(), "error", err)
		}
		if l.pausing {
			return
		}
		l.pausing = true
		l.backoff = min(max(2*l.backoff, minAcceptBackoff), maxAcceptBackoff)
		time.AfterFunc(l.backoff, func() { _ = l.engine.acceptor.Trigger(acceptAgainTask, l) })
	default:
		l.engine.acceptor.Again((*accepting)(l))
	}
}

func acceptAgainTask(arg any) error {
	l := arg.(*Listener)
	l.pausing = false
	(*accepting)(l).OnEvent(reactor.Readable)
	return nil
}

// accepted makes a session from an accepted descriptor and passes it to a core.
func (l *Listener) accepted(fd int, remote netip.AddrPort) {
	e := l.engine
	peer := remote
	remote, header := l.admissionAddr(remote)
	err := e.admit(l, remote.Addr())
	if err == nil && !e.admission.beginHandshake(e.cfg.MaxHandshakes) {
		e.release(l, remote.Addr())
		err = errMaxHandshakes
	}
	if err != nil {
		e.countRefused(err, peer, l)
		// Only a protocol with a handshake can answer with the reason.
		if len(l.streams) < 2 || e.draining.Load() || !e.admission.beginRefusal() {
			reactor.Close(fd)
			return
		}
	}
	if !e.beginSession() {
		reactor.Close(fd)
		e.refuse(err, l, remote.Addr())
		return
	}
	s, c := newSocketSession(e, l, fd, remote)
	if !header {
		c.stage = stageTLSOrPlain
	}
	if err != nil {
		c.refused, s.ending = true, err
	}
	s.core.stats.accepted.Add(1)
	_ = s.core.loop.Trigger(attachTask, c)
}
