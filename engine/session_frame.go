package engine

import (
	"sync"

	"github.com/millrace/millrace/framing"
)

// SendFrame queues f without a copy: the session refers to the bytes that f shares. (A
// frame below 1 KiB is copied if other bytes are queued: that is cheaper.) f may be queued
// for any number of sessions, and for one session any number of times. All of its bytes
// count for OutboxLimit. It never blocks, keeps the order of Send, and any goroutine may
// call it. A Link that does not implement SharingLink, and a codec without a Form, encode
// f for this session alone. Errors are those of Send.
func (s *Session) SendFrame(f *Frame) error { return s.conn.sendFrame(f) }

// SendOwned is Send without a copy, for a large payload that is not used again. payload
// belongs to the session until release is called, and must not change. release is called
// exactly once, also after an error: when the payload is written, dropped, or copied
// after all (if it is below 1 KiB, or the protocol must change the bytes). It runs on a
// goroutine of its own, without any lock, maybe before SendOwned has returned; it may
// block. A panic of release ends the session. A nil release is ignored. SendOwned never
// blocks. Errors are those of Send.
func (s *Session) SendOwned(payload []byte, release func()) error {
	once := sync.OnceFunc(func() {
		defer s.recoverPanic()
		if release != nil {
			release()
		}
	})
	err := s.sendPayload(payload, func(m *framing.Message) error { return s.conn.sendOwned(m, once) })
	if err != nil {
		go once()
	}
	return err
}

// sendFrame implements connection.
func (w *socketWriter) sendFrame(f *Frame) (err error) {
	s := w.session
	s.out.mu.Lock()
	defer w.unlockAppend(&err)
	if s.phase == phaseHandshake {
		return ErrWouldBlock
	}
	codec, form := w.conn().codec, Form(0)
	if shared, ok := codec.(FormCodec); ok {
		form = shared.Form() // not stored: an idle session would have to keep it
	}
	return w.queuedLocked(s.out.appendFrame(form, codec, f))
}

// sendOwned implements connection.
func (w *socketWriter) sendOwned(m *Message, release func()) (err error) {
	s := w.session
	s.out.mu.Lock()
	defer w.unlockAppend(&err)
	if s.phase == phaseHandshake {
		return ErrWouldBlock
	}
	return w.queuedLocked(s.out.appendOwned(w.conn().codec, m, release))
}

// sendFrame implements connection.
func (c *linkConn) sendFrame(f *Frame) error {
	l, ok := c.link.(SharingLink)
	if !ok {
		return c.send(&f.m)
	}
	return c.sent(c.sendable(), func() error { return l.SendFrame(f) })
}

// sendOwned implements connection.
func (c *linkConn) sendOwned(m *Message, release func()) error {
	l, ok := c.link.(SharingLink)
	if ok {
		return c.sent(c.sendable(), func() error { return l.SendOwned(m, release) })
	}
	err := c.send(m)
	if err == nil {
		go release()
	}
	return err
}
