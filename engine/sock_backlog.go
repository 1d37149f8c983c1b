package engine

import "github.com/millrace/millrace/internal/reactor"

// resume continues a connection that was stalled or paused: it makes the steps of the
// backlog in the order of its bits, until one has to wait. On the loop.
func (c *socketConn) resume() {
	for c.backlog != 0 && c.backlog&(waiting|handling) == 0 {
		next := c.backlog & -c.backlog
		switch next {
		case dueOpen, dueEnd, dueClosed:
			c.post(next)
		case dueMessage:
			if c.deliverAgain() {
				c.backlog &^= dueMessage
			} else {
				c.core().stall(c)
			}
		case dueTail:
			if c.session.reading.Load() != 0 {
				return
			}
			c.process(c.tail.b, 0)
		case dueShutdown:
			if c.tls != nil && c.tls.leftover {
				if c.session.reading.Load() != 0 {
					return
				}
				if c.tls.decrypt(); c.backlog&waiting == 0 && c.tls.leftover && c.session.reading.Load() == 0 {
					c.core().stall(c)
				}
				continue
			}
			c.backlog &^= dueShutdown
			c.endBehindMessages(ErrShutdown)
		case dueSocket:
			if c.session.reading.Load() == 0 || c.input >= inputDraining {
				c.backlog &^= dueSocket
				c.read()
			}
			return
		}
	}
}

// resumeTask resumes a connection whose last reason not to read is gone.
func resumeTask(arg any) error {
	c := arg.(*socketConn)
	if c.session.reading.Load() == 0 {
		c.resume()
	}
	c.checked()
	return nil
}

// readingChanged implements connection.
func (c *socketConn) readingChanged() {
	if c.session.reading.Load() == 0 {
		_ = c.core().loop.Trigger(resumeTask, c)
	}
}

// post sends the consumer a record without messages, now or when the ring has space. On
// the loop.
func (c *socketConn) post(due backlog) {
	s, k := c.session, c.session.core
	c.backlog |= due
	if c.backlog&waiting != 0 {
		return // resume posts it, in order
	}
	if !k.inline {
		kind := recordOpen
		switch due {
		case dueEnd:
			kind = recordEnd
		case dueClosed:
			kind = recordClosed
		}
		if k.records.control(s, kind) != nil {
			k.stall(c)
			return
		}
		c.backlog &^= due
		return
	}
	c.backlog &^= due
	switch due {
	case dueOpen:
		k.consumer.open(s)
	case dueEnd:
		s.messagesHandled()
	case dueClosed:
		k.consumer.closed(s)
	}
	if !k.decoding { // else process flushes at its end
		k.consumer.flush()
	}
}

var _ reactor.Handler = (*socketConn)(nil)
