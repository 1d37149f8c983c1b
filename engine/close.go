package engine

import (
	"errors"

	"github.com/millrace/millrace/internal/reactor"
)

// phase is where a session stands between accept and the end. It only grows.
type phase uint8

const (
	phaseHandshake phase = iota // bytes flow, messages don't yet
	phaseOpen                   // messages flow
	phaseClosing                // no more messages out; the outbox is being flushed
	phaseDrained                // all is written and our side is shut; the peer's end is awaited
	phaseEnded                  // the descriptor is closed, or will be by the writer that still has it
)

// What the loop owes the consumer, when the ring had no room for it.
const (
	owedOpen uint8 = 1 << iota
	owedEnd
	owedClosed
)

// end starts the end of the session for reason, from any goroutine: orderly
// (what is queued is written, then the protocol's goodbye), or at once if abort.
// The first reason stays.
func (s *Session) end(reason error, abort bool) {
	s.out.mu.Lock()
	if s.link != nil {
		s.setReasonLocked(reason)
		s.out.mu.Unlock()
		s.wakeDeliverers()
		s.closeLink(reason, abort)
		return
	}
	s.endLocked(reason, abort)
	s.out.mu.Unlock()
}

func (s *Session) endLocked(reason error, abort bool) {
	if abort {
		s.failLocked(reason)
		return
	}
	if s.phase >= phaseClosing {
		return
	}
	s.phase = phaseClosing
	s.setReasonLocked(reason)
	s.goodbyeLocked(reason)
	s.kickLocked()
	_ = s.core.loop.Trigger(settleTask, s)
}

// goodbyeLocked queues the protocol's last words behind everything else.
func (s *Session) goodbyeLocked(reason error) {
	if s.codec == nil {
		return
	}
	t := newBlock(maxControlBytes)
	b, err := goodbye(s.codec, t.b, reason)
	if p, ok := err.(*PanicError); ok { //nolint:errorlint // as goodbye made it
		s.notePanicLocked(p)
	}
	if len(b) == 0 {
		t.free()
		return
	}
	t.b = b
	s.out.pending += len(t.b)
	s.out.push(t)
}

func (s *Session) setReasonLocked(reason error) {
	s.closing.Store(true)
	if !errors.Is(reason, ErrConnectionLost) {
		s.muted.Store(true)
	}
	if s.laned {
		s.core.consumer.lane.broken.Store(true)
	}
	if s.out.refused == nil {
		s.out.refused = reason
		s.out.wakeReader()
	}
}

// breakLocked notes that nothing can be written any more. What the peer sent
// before the connection broke may still lie in the socket: it is read to its
// end, and handled, before the session ends.
func (s *Session) breakLocked(reason error) {
	s.broken = true
	s.phase = max(s.phase, phaseDrained)
	s.setReasonLocked(reason)
	s.out.discard(reason)
}

// failLocked ends the session at once: what is queued is dropped, and the
// descriptor is closed by the loop when no writer has it.
func (s *Session) failLocked(reason error) {
	if s.phase == phaseEnded {
		return
	}
	s.phase = phaseEnded
	s.setReasonLocked(reason)
	s.out.discard(reason)
	_ = s.core.loop.Trigger(settleTask, s)
}

// settleTask moves an ending session on, on its loop: it sets the linger
// deadline, looks out for the peer's end, and at last destroys the session.
func settleTask(arg any) error {
	s := arg.(*Session)
	if s.destroyed {
		return nil
	}
	s.out.mu.Lock()
	phase, writing, broken := s.phase, s.writing, s.broken
	if phase == phaseDrained && (s.eof || s.core.engine.cfg.LingerTimeout == 0) {
		s.phase, phase = phaseEnded, phaseEnded
	}
	s.out.mu.Unlock()
	switch {
	case phase == phaseEnded && !writing:
		s.destroy()
	case broken && !s.lingering:
		s.lingering = true
		s.startPhase(max(s.core.engine.cfg.LingerTimeout, 1))
		s.read()
	case phase >= phaseClosing && !s.lingering:
		s.lingering = true
		s.inputDone = true
		s.startPhase(max(s.core.engine.cfg.LingerTimeout, 1))
		s.discardInput()
	}
	return nil
}

// destroy closes the descriptor and gives everything back. On the loop.
func (s *Session) destroy() {
	c := s.core
	s.destroyed = true
	s.inputDone = true
	s.disarm()
	c.loop.Unregister(&s.conn)
	reactor.Close(s.conn.FD)
	s.out.mu.Lock()
	s.out.discard(s.out.refused)
	s.out.mu.Unlock()
	s.keep(nil)
	if s.tls != nil {
		s.tls.release()
	}
	s.unparsed = false
	if !s.opened {
		s.neverOpened()
		return
	}
	s.owe(owedClosed)
}

// neverOpened forgets a session that its handler has not heard of.
func (s *Session) neverOpened() {
	e := s.core.engine
	switch {
	case s.refusal != nil:
		e.admission.endRefusal() // counted as refused already
	case s.listener != nil:
		e.admission.endHandshake()
		fallthrough
	default:
		e.countRefused(s.Err(), s.remote, s.listener)
	}
	s.core.forget(s)
}

// endAfterMessages ends the session in an orderly way when the messages that
// were received before have been handled. No more input is taken. On the loop.
func (s *Session) endAfterMessages(reason error) {
	if s.inputDone {
		return
	}
	s.inputDone = true
	s.out.mu.Lock()
	s.ending = reason
	s.out.mu.Unlock()
	if !s.opened {
		s.end(reason, false)
		return
	}
	s.owe(owedEnd)
}

// messagesDone is called by the consumer when the messages before the end have
// been handled. Replies that somebody still works on are waited for, unless
// the peer broke the protocol.
func (s *Session) messagesDone() {
	if s.link != nil {
		defer s.link.turn.take().pass() // behind the delivery that is under way
	}
	s.out.mu.Lock()
	reason := s.ending
	if s.holds > 0 && (errors.Is(reason, ErrPeerClosed) || errors.Is(reason, ErrShutdown)) {
		s.ended = true
		s.out.mu.Unlock()
		return
	}
	s.out.mu.Unlock()
	s.end(reason, false)
}

// owe posts a control record, now or when the ring has room. On the loop.
func (s *Session) owe(o uint8) {
	s.owed |= o
	if s.stalled {
		return // goOn posts it, in order
	}
	s.core.batch.publish()
	if !s.post(o) {
		s.core.stall(s)
	}
}

// post gives one owed control record to the consumer; false when the ring has
// no room. On the loop.
func (s *Session) post(o uint8) bool {
	c := s.core
	if c.inline {
		s.owed &^= o
		switch o {
		case owedOpen:
			c.consumer.open(s)
		case owedEnd:
			s.messagesDone()
		case owedClosed:
			c.consumer.closed(s)
		}
		if !c.decoding {
			c.consumer.flush() // else process does it at its end
		}
		return true
	}
	kind := [...]uint32{owedOpen: recordOpen, owedEnd: recordEnd, owedClosed: recordClosed}[o]
	if !c.putControl(s, kind) {
		return false
	}
	s.owed &^= o
	return true
}

// forget frees the session's slot; its ID finds nothing from then on.
func (c *core) forget(s *Session) {
	if t := s.transport; t != nil {
		t.active.Add(-1)
	}
	c.slots.remove(s.id)
	if s.refusal == nil {
		c.engine.release(s.remote.Addr())
	}
	c.engine.sessionGone()
}
