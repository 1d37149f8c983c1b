package quicbridge

import (
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// Send implements engine.Link.
func (c *conn) Send(m *framing.Message) error {
	if m.Datagram {
		return c.datagrams.add(m)
	}
	body := len(m.Ext) + len(m.Payload)
	if body > c.limits.MaxMessageSize || c.compat && framing.PacketHeaderSize+body > compatMaxPacket {
		return engine.ErrTooLarge
	}
	size := int64(framing.PacketHeaderSize + body)
	if c.queued.Add(size) > int64(c.limits.OutboxLimit) {
		c.queued.Add(-size)
		return engine.ErrSlowConsumer // the engine aborts the session
	}
	st, err := c.append(m)
	if err != nil {
		c.queued.Add(-size)
		return err
	}
	st.answered(m)
	c.mu.Lock()
	if !st.dirty {
		st.dirty = true
		c.dirty = append(c.dirty, st)
	}
	c.mu.Unlock()
	return nil
}

// append queues m on its stream, or on the first one if that is gone.
func (c *conn) append(m *framing.Message) (*stream, error) {
	for handle := m.Stream; ; handle = 0 {
		st, err := c.route(handle)
		if err != nil {
			return nil, err
		}
		err = st.out.Append(framing.Packet{}, m)
		if err != errFinished {
			return st, err
		}
		// The stream was finished meanwhile: it is no longer the first one either.
	}
}

// route finds the stream for a message, and makes one if need be.
func (c *conn) route(handle uint64) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseOpen {
		return nil, c.reason
	}
	if st := c.find(handle); st != nil && (st.stopped || !st.finishing) {
		return st, nil
	}
	if c.first == nil || c.first.finishing {
		c.first = c.newStream(nil)
	}
	return c.first, nil
}

// Flush implements engine.Link.
func (c *conn) Flush() {
	c.mu.Lock()
	for i, st := range c.dirty {
		c.dirty[i] = nil
		st.dirty = false
		st.kick()
	}
	c.dirty = c.dirty[:0]
	c.datagrams.flush()
	c.mu.Unlock()
}

// wrote accounts for n bytes that were written, or lost.
func (c *conn) wrote(n int) {
	c.queued.Add(-int64(n))
	c.lastWrite.Store(int64(time.Since(c.begun)))
}
