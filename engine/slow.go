package engine

import (
	"bytes"
	"runtime"
	"strconv"
	"sync"
)

// SlowConsumer is a policy for peers that don't collect what is sent to them.
type SlowConsumer uint8

const (
	// CloseSlow closes the session with ErrSlowConsumer.
	CloseSlow SlowConsumer = iota
	// DropNewest refuses the message with ErrDropped.
	DropNewest
	// DropOldest drops the oldest messages that nothing was written of, a block
	// (4 to 64 KiB) of them at a time, to make room.
	DropOldest
	// Block makes the sender wait for room. In a callback, where waiting would
	// stop other sessions, Send fails with ErrWouldBlock instead.
	Block
)

// makeRoom applies the policy to a message of need bytes that would take the
// outbox above its limit: nil means that there is room now. With o.mu held.
func (o *Outbox) makeRoom(need int) error {
	switch o.limits.SlowConsumer {
	case DropNewest:
		o.countDrops(1)
		return ErrDropped
	case DropOldest:
		for o.pending+need > o.limits.OutboxLimit {
			if !o.dropBlock() {
				o.countDrops(1)
				return ErrDropped
			}
		}
		return nil
	case Block:
		if e := o.limits.engine; e != nil && (e.callbacks.current() || handlesDirectly()) {
			return ErrWouldBlock
		}
		for o.refused == nil && o.pending > 0 && o.pending+need > o.limits.OutboxLimit {
			o.wait()
		}
		return o.refused
	default:
		return ErrSlowConsumer
	}
}

// dropBlock drops the oldest block of messages that nobody has begun to write,
// and reports whether there was one.
func (o *Outbox) dropBlock() bool {
	prev, b := (*block)(nil), o.head
	for b != nil && (b.off > 0 || b.messages == 0) {
		prev, b = b, b.next
	}
	if b == nil {
		return false
	}
	if prev == nil {
		o.head = b.next
	} else {
		prev.next = b.next
	}
	if o.tail == b {
		o.tail = prev
	}
	o.pending -= len(b.b)
	o.messages -= b.messages
	o.countDrops(b.messages)
	b.free()
	return true
}

func (o *Outbox) countDrops(n int) {
	if e := o.limits.engine; e != nil {
		e.drops.Add(uint64(n))
	}
}

// callbackGoroutines are the goroutines that run callbacks: loops and workers.
type callbackGoroutines struct{ ids sync.Map }

// enter adds the calling goroutine; the returned function removes it.
func (c *callbackGoroutines) enter() (leave func()) {
	id := goroutineID()
	c.ids.Store(id, nil)
	return func() { c.ids.Delete(id) }
}

// current reports whether the caller is one of them.
func (c *callbackGoroutines) current() bool {
	_, ok := c.ids.Load(goroutineID())
	return ok
}

// goroutineID reads the calling goroutine's number from its stack trace, the
// only place where Go shows it. It takes about a microsecond: for senders that are
// about to wait, not for the hot path.
func goroutineID() uint64 {
	var buf [64]byte
	b := bytes.TrimPrefix(buf[:runtime.Stack(buf[:], false)], []byte("goroutine "))
	if i := bytes.IndexByte(b, ' '); i > 0 {
		b = b[:i]
	}
	id, _ := strconv.ParseUint(string(b), 10, 64)
	return id
}
