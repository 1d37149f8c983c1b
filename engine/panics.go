package engine

import (
	"context"
	"net"
	"runtime/debug"

	"github.com/millrace/millrace/framing"
)

// Codecs, protocols and links may be anybody's code. A panic in one of them ends
// the session that it happened in, with a PanicError; it never leaves a lock held,
// and never reaches the goroutine of a loop, a worker, or a caller of Send.

// recoverInto is deferred: it turns a panic into an error.
func recoverInto(err *error) {
	if v := recover(); v != nil {
		*err = &PanicError{Value: v, Stack: debug.Stack()}
	}
}

// encode is enc.Append. With a PanicError dst is as it was.
func encode(enc Appender, dst []byte, m *framing.Message) (b []byte, err error) {
	defer recoverInto(&err)
	return enc.Append(dst, m)
}

func goodbye(c Codec, dst []byte, reason error) (b []byte, err error) {
	defer recoverInto(&err)
	return c.Goodbye(dst, reason), nil
}

func connect(ctx context.Context, p StreamProtocol, conn net.Conn, addr string, limits Limits) (c Codec, rest []byte, err error) {
	defer recoverInto(&err)
	return p.Connect(ctx, conn, addr, limits)
}

// notePanic counts and logs a panic. Without s.out.mu, because the logger may be
// anybody's code as well.
func (s *Session) notePanic(err *PanicError) {
	s.core.stats.panics.Add(1)
	s.core.engine.cfg.Logger.Error("handler panicked", "session", s.id, "transport", s.Transport(),
		"panic", err.Value, "stack", string(err.Stack))
}

// notePanicLocked is notePanic with s.out.mu held: the loop does it.
func (s *Session) notePanicLocked(err *PanicError) {
	_ = s.core.loop.Trigger(notePanicTask, &notedPanic{s, err})
}

type notedPanic struct {
	session *Session
	err     *PanicError
}

func notePanicTask(arg any) error {
	n := arg.(*notedPanic)
	n.session.notePanic(n.err)
	return nil
}

// recoverDecode is deferred on the loop: it ends the session whose protocol, codec
// or inline handler panicked.
func (s *Session) recoverDecode() {
	if v := recover(); v != nil {
		err := &PanicError{Value: v, Stack: debug.Stack()}
		s.notePanic(err)
		s.inputDone = true
		s.end(err, false)
	}
}

func (s *Session) giveLink(m *framing.Message) (err error) {
	defer recoverInto(&err)
	return s.link.Send(m)
}

func (s *Session) flushLink() {
	defer s.recoverLink()
	s.link.Flush()
}

func (s *Session) pauseLink(paused bool) {
	defer s.recoverLink()
	s.link.PauseReading(paused)
}

// closeLink starts the end of the link. One that panics will not call Ended.
func (s *Session) closeLink(reason error, abort bool) {
	defer func() {
		if v := recover(); v != nil {
			err := &PanicError{Value: v, Stack: debug.Stack()}
			s.notePanic(err)
			go s.Ended(err)
		}
	}()
	s.link.Close(reason, abort)
}

// recoverLink is deferred: it ends the session whose link panicked.
func (s *Session) recoverLink() {
	if v := recover(); v != nil {
		err := &PanicError{Value: v, Stack: debug.Stack()}
		s.notePanic(err)
		s.end(err, true)
	}
}
