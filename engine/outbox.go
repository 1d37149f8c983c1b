package engine

import (
	"sync"

	"github.com/millrace/millrace/framing"
)

// Appender encodes messages: the part of a Codec, or of a framing.Framer, that
// an Outbox needs.
type Appender interface {
	Append(dst []byte, m *framing.Message) ([]byte, error)
}

// encodeSlack is what an encoding may add to a message before its block has to
// grow by reallocation: packet header 16 + WebSocket header 14, and some.
const encodeSlack = 64

// maxControlBytes bounds the control frames that wait in an outbox.
const maxControlBytes = 4 << 10

// Outbox is a bounded queue of encoded bytes between senders on any goroutine
// and one writer. Messages keep their order; control frames pass ahead of them
// at message boundaries. Bytes are kept in pooled blocks, and none when empty.
//
// The engine uses one for each session on its reactor; a Transport uses one for
// each of its streams. Init must be called first. Append, Control, Close and
// Pending may be called from any goroutine and never block; Next, Done and
// AwaitRoom belong to the writer and the reader of the stream.
type Outbox struct {
	limits *Limits // set by Init, then read only

	mu       sync.Mutex // guards what follows
	head     *block     // data not yet taken by the writer, oldest first
	tail     *block
	control  *block // control frames not yet taken, whole ones
	taken    *block // what the writer took by Next and has not Done
	pending  int    // bytes in all of the above
	messages int    // messages appended since drainCount
	refused  error  // set by Close: why Append fails
	room     *sync.Cond
}

// Init sets the outbox's limits, which must stay unchanged.
func (o *Outbox) Init(limits *Limits) { o.limits = limits }

// Append encodes m by enc at the end of the queue. When OutboxLimit would be
// passed, Limits.SlowConsumer says what happens: it fails with ErrSlowConsumer or ErrDropped and
// queues nothing, drops older messages, or waits (ErrWouldBlock where it may not).
// It fails with ErrTooLarge for a message above MaxMessageSize, with the reason
// given to Close after that, and with the encoder's error.
func (o *Outbox) Append(enc Appender, m *framing.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.append(enc, m)
}

// append is Append with o.mu held.
func (o *Outbox) append(enc Appender, m *framing.Message) error {
	size := len(m.Payload) + len(m.Ext)
	switch {
	case o.refused != nil:
		return o.refused
	case size > o.limits.MaxMessageSize:
		return ErrTooLarge
	case o.pending+size+encodeSlack > o.limits.OutboxLimit:
		if err := o.makeRoom(size + encodeSlack); err != nil {
			return err
		}
	}
	t := o.tail
	if t == nil || t.room() < size+encodeSlack {
		t = newBlock(o.nextSize(size + encodeSlack))
	}
	before := len(t.b)
	b, err := encode(enc, t.b, m)
	if err != nil {
		if t != o.tail {
			t.free()
		}
		return err
	}
	if len(b) == before { // this framing encodes the message as nothing
		if t != o.tail {
			t.free()
		}
		return nil
	}
	t.b = b
	o.pending += len(b) - before
	o.messages++
	t.messages++
	if t != o.tail {
		o.push(t)
	}
	return nil
}

// nextSize is the size of the next block: up to four times the last one, so
// that a queue pins memory in proportion to its bytes, and 64 KiB are enough for one write.
func (o *Outbox) nextSize(need int) int {
	if o.tail != nil {
		need = max(need, min(4*cap(o.tail.b), 64<<10))
	}
	return need
}

func (o *Outbox) push(b *block) {
	if o.tail == nil {
		o.head = b
	} else {
		o.tail.next = b
	}
	o.tail = b
}

// Control queues the whole control frame b, copied, ahead of all messages that
// the writer hasn't begun. It fails with ErrWouldBlock when 4 KiB of control
// frames wait already.
func (o *Outbox) Control(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.appendControl(b)
}

func (o *Outbox) appendControl(b []byte) error {
	if o.refused != nil {
		return o.refused
	}
	if o.control == nil {
		o.control = newBlock(max(len(b), maxControlBytes))
		o.control.control = true
	} else if len(o.control.b)+len(b) > maxControlBytes {
		return ErrWouldBlock
	}
	o.control.b = append(o.control.b, b...)
	o.pending += len(b)
	return nil
}

// take detaches everything queued as one chain in the order of writing. A block
// that was written in part comes first, so that control frames never land
// inside a message, and control frames that were put back come before new ones.
func (o *Outbox) take() *block {
	chain := o.head
	o.head, o.tail = nil, nil
	c := o.control
	if c == nil {
		return chain
	}
	o.control = nil
	at := &chain
	for *at != nil && ((*at).off > 0 || (*at).control) {
		at = &(*at).next
	}
	c.next, *at = *at, c
	return chain
}

// putBack returns the unwritten rest of a chain to the front of the queue.
func (o *Outbox) putBack(chain *block) {
	if chain == nil {
		return
	}
	last := chain
	for last.next != nil {
		last = last.next
	}
	last.next = o.head
	o.head = chain
	if o.tail == nil {
		o.tail = last
	}
}

// written accounts for n bytes of chain that were written, frees the blocks
// that are done, and returns the rest.
func (o *Outbox) written(chain *block, n int) *block {
	o.pending -= n
	for chain != nil && n >= len(chain.b)-chain.off {
		n -= len(chain.b) - chain.off
		next := chain.next
		chain.free()
		chain = next
	}
	if chain != nil {
		chain.off += n
	}
	o.wakeReader()
	return chain
}

// Next returns the bytes that the writer shall write next, borrowed until Done,
// or nil when nothing is queued. Only one goroutine may call it at a time.
func (o *Outbox) Next() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.taken == nil {
		o.taken = o.take()
	}
	if o.taken == nil {
		return nil
	}
	return o.taken.b[o.taken.off:]
}

// Done tells that the first n bytes of the last Next were written.
func (o *Outbox) Done(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken = o.written(o.taken, n)
}

// Pending is the number of bytes queued and not yet Done.
func (o *Outbox) Pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pending
}

// Close makes every later Append and Control fail with reason. What is queued
// stays and can be written. It wakes AwaitRoom.
func (o *Outbox) Close(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused == nil {
		o.refused = reason
	}
	o.wakeReader()
}

// Discard drops everything queued, and closes the outbox if it isn't yet.
func (o *Outbox) Discard(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.discard(reason)
}

func (o *Outbox) discard(reason error) {
	if o.refused == nil {
		o.refused = reason
	}
	// The writer may still hold the block of its last Next: leave that to Done.
	for b := o.take(); b != nil; {
		next := b.next
		o.pending -= len(b.b) - b.off
		b.free()
		b = next
	}
	o.wakeReader()
}

// AwaitRoom blocks while more than OutboxSoftMark bytes are queued, until less
// than half of it is: a stream's reader calls it before it reads, so that a peer which
// doesn't collect its replies can't ask for more. It returns at once when the
// outbox is closed. Never call it from a callback or a loop.
func (o *Outbox) AwaitRoom() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.pending <= o.limits.OutboxSoftMark {
		return
	}
	for o.pending > o.limits.OutboxSoftMark/2 && o.refused == nil {
		o.wait()
	}
}

// wait waits until something was written, or the outbox was closed.
func (o *Outbox) wait() {
	if o.room == nil {
		o.room = sync.NewCond(&o.mu)
	}
	o.room.Wait()
}

// wakeReader lets AwaitRoom and blocked senders look again.
func (o *Outbox) wakeReader() {
	if o.room != nil {
		o.room.Broadcast()
	}
}
