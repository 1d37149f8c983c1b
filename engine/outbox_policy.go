package engine

// SlowConsumerPolicy is the policy for peers that read more slowly than they are sent to. No
// policy makes a sender wait; SendContext waits, under any policy.
type SlowConsumerPolicy uint8

const (
	// SlowConsumerClose closes the session with ErrSlowConsumer.
	SlowConsumerClose SlowConsumerPolicy = iota
	// SlowConsumerDropNewest refuses the message with ErrDropped.
	SlowConsumerDropNewest
	// SlowConsumerDropOldest drops the oldest messages, if no byte of them was written, to make
	// space: a block of them at a time (4 to 64 KiB, or one larger message).
	SlowConsumerDropOldest
)

// makeSpace applies the policy to a message of need bytes that would take the outbox
// above its limit. Nil means that there is space now. With o.mu held.
func (o *Outbox) makeSpace(need int) error {
	switch o.limits.SlowConsumer {
	case SlowConsumerDropNewest:
		o.countDrops(1)
		return ErrDropped
	case SlowConsumerDropOldest:
		for o.pending+need > o.limits.OutboxLimit {
			if !o.dropBlock() {
				o.countDrops(1)
				return ErrDropped
			}
		}
		return nil
	default:
		return ErrSlowConsumer
	}
}

// dropBlock drops the oldest block of whole messages that no writer has begun, with the
// rest of its last one, and reports whether there was one.
func (o *Outbox) dropBlock() bool {
	b := o.queue.remove(func(b *block) bool { return b.off == 0 && b.messages > 0 })
	if b == nil {
		return false
	}
	o.messages -= b.messages
	o.countDrops(b.messages)
	o.pending -= freeChain(b)
	return true
}

func (o *Outbox) countDrops(n int) {
	if e := o.limits.engine; e != nil {
		e.drops.Add(uint64(n))
	}
}
