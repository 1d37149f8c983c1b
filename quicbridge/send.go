package quicbridge

import (
	"context"
	"slices"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// Send implements engine.Link.
func (c *conn) Send(m *framing.Message) error {
	return c.send(outgoing{m: m})
}

func (c *conn) send(o outgoing) error {
	m := o.m
	if m.Datagram {
		return c.datagrams.add(m)
	}
	size, err := c.sizeOf(m)
	if err != nil {
		return err
	}
	if c.queued.Add(size) > int64(c.limits.OutboxLimit) {
		if err := c.overLimit(m.Stream, size); err != nil {
			c.queued.Add(-size)
			return err
		}
	}
	return c.queue(o, size)
}

// SendContext implements engine.Link. It does not wait for datagrams.
func (c *conn) SendContext(ctx context.Context, m *framing.Message) error {
	if m.Datagram {
		return c.datagrams.add(m)
	}
	size, err := c.sizeOf(m)
	if err != nil {
		return err
	}
	if err := c.reserve(ctx, size); err != nil {
		return err
	}
	return c.queue(outgoing{m: m}, size)
}

// sizeOf returns how many bytes m takes on its stream, or engine.ErrTooLarge.
func (c *conn) sizeOf(m *framing.Message) (int64, error) {
	body := len(m.Ext) + len(m.Payload)
	if body > c.limits.MaxMessageSize || c.compat && framing.PacketHeaderSize+body > compatMaxPacket {
		return 0, engine.ErrTooLarge
	}
	return int64(framing.PacketHeaderSize + body), nil
}

// appendSlack is how many free bytes an Outbox requires beyond the size of a
// packet.
const appendSlack = 64

// reserve blocks until size more bytes may be queued on the connection, or ctx or
// the connection ends. It adds them to queued.
func (c *conn) reserve(ctx context.Context, size int64) error {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.wake.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.phase != phaseOpen {
			return c.reason
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if n := c.recount(); n == 0 || n+size+appendSlack <= int64(c.limits.OutboxLimit) {
			c.queued.Add(size)
			return nil
		}
		c.wake.Wait()
	}
}

// queue appends o's message. Its size bytes are counted in queued already.
func (c *conn) queue(o outgoing, size int64) error {
	st, err := c.append(o)
	if err != nil {
		c.queued.Add(-size)
		return err
	}
	st.answered(o.m)
	if st.dirty.Load() {
		return nil // a Flush is still to come
	}
	c.mu.Lock()
	if !st.dirty.Swap(true) {
		c.dirty = append(c.dirty, st)
	}
	c.mu.Unlock()
	return nil
}

// overLimit is called if a message of size bytes seems to take the streams of the
// connection together above OutboxLimit. If its stream is the only one with queued
// bytes, that stream's outbox applies the session's policy for slow consumers, and
// overLimit returns nil. Otherwise it returns the error with which the message is
// refused.
func (c *conn) overLimit(handle uint64, size int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recount()
	if c.queued.Add(size) <= int64(c.limits.OutboxLimit) {
		return nil
	}
	own := c.find(handle)
	if own == nil {
		own = c.first
	}
	if !slices.ContainsFunc(c.all, func(st *stream) bool { return st != own && (st.writing || st.out.Pending() > 0) }) {
		return nil
	}
	switch c.limits.SlowConsumer {
	case engine.SlowConsumerDropNewest, engine.SlowConsumerDropOldest:
		return engine.ErrDropped
	default:
		return engine.ErrSlowConsumer // the engine aborts the session
	}
}

// recount returns queued. If an outbox has dropped messages since the last call,
// queued is too high, and recount corrects it first. That takes a pass over all
// streams, so stale makes all waiting readers share one pass. Messages that are
// being sent at the same time may be missing from the count. Under c.mu.
func (c *conn) recount() int64 {
	if !c.stale.Swap(false) {
		return c.queued.Load()
	}
	n := c.inHand.Load()
	for _, st := range c.all {
		n += int64(st.out.Pending())
	}
	c.queued.Store(n)
	return n
}

// dropSlack exceeds the free bytes that an outbox requires beyond a message.
const dropSlack = 1 << 10

// append queues o's message on its stream, or on the first stream if its own is gone.
func (c *conn) append(o outgoing) (*stream, error) {
	m := o.m
	for handle := m.Stream; ; handle = 0 {
		st, err := c.route(handle)
		if err != nil {
			return nil, err
		}
		crowded := c.limits.SlowConsumer == engine.SlowConsumerDropOldest &&
			st.out.Pending()+framing.PacketHeaderSize+len(m.Ext)+len(m.Payload)+dropSlack > c.limits.OutboxLimit
		err = o.appendTo(&st.out)
		if crowded {
			c.stale.Store(true)
		}
		st.in.delivery.StopCollecting() // later replies must come after m
		if err != errFinished {
			return st, err
		}
		// The stream was finished meanwhile, and is not the first stream any more.
	}
}

// route returns the stream for a message, and makes one if necessary.
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
		st.dirty.Store(false)
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
