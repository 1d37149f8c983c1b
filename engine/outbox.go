package engine

import (
	"context"
	"sync"

	"github.com/millrace/millrace/framing"
)

// Appender, for protocol authors, encodes messages. It is the part of a Codec, or of a
// framing.Framer, that an Outbox needs.
type Appender interface {
	Append(dst []byte, m *framing.Message) ([]byte, error)
}

// encodeSlack is how many bytes an encoding may add to a message before its block must
// be reallocated: packet header 16, WebSocket header 14, and a reserve.
const encodeSlack = 64

// maxControlBytes bounds the control frames that wait in an outbox.
const maxControlBytes = 4 << 10

// Outbox, for protocol authors, is a bounded queue of encoded bytes between senders on
// any goroutine and one writer. Messages keep their order; control frames are written
// before them, at message boundaries. Bytes are kept in pooled blocks; an empty outbox
// has none.
//
// The engine uses one for each session on its reactor; a Transport uses one for each of
// its streams. Init must be called first. Any goroutine may call Append, AppendContext,
// Close, Discard and Pending; only AppendContext blocks. Next and Done belong to the
// stream's writer, AwaitRoom to its reader.
type Outbox struct {
	limits *Limits // set by Init, then read only

	mu       sync.Mutex // guards the fields below
	queue    blockList  // not yet taken by the writer, oldest first
	control  *block     // control frames not yet taken, whole ones
	taken    *block     // taken by Next and not Done
	pending  int        // bytes in all of the above
	messages int        // messages appended since the writer counted them
	refused  error      // set by Close and Discard: the error of Append
	space    *sync.Cond // nil until a goroutine waits
}

// Init sets the outbox's limits, which must stay unchanged.
func (o *Outbox) Init(limits *Limits) { o.limits = limits }

// Append encodes m by enc at the end of the queue. If OutboxLimit would be exceeded,
// Limits.SlowConsumer applies: Append drops older messages, or fails with
// ErrSlowConsumer or ErrDropped and queues nothing. It also fails with ErrTooLarge for a
// message above MaxMessageSize, with Close's reason after Close, and with the encoder's
// error.
func (o *Outbox) Append(enc Appender, m *framing.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.append(enc, m)
}

// append is Append with o.mu held.
func (o *Outbox) append(enc Appender, m *framing.Message) error {
	size := len(m.Payload) + len(m.Ext)
	if err := o.admit(size); err != nil {
		return err
	}
	return o.encode(enc, m, size+encodeSlack)
}

// admit returns nil if a message of size bytes may be queued now. With o.mu held.
func (o *Outbox) admit(size int) error {
	switch {
	case o.refused != nil:
		return o.refused
	case size > o.limits.MaxMessageSize:
		return ErrTooLarge
	case o.pending+size+encodeSlack > o.limits.OutboxLimit:
		return o.makeSpace(size + encodeSlack)
	}
	return nil
}

// AppendContext is Append that waits for space below OutboxLimit instead of applying
// Limits.SlowConsumer. If ctx ends first, it returns ctx's cause. It blocks: do not call
// it from a callback or a loop.
func (o *Outbox) AppendContext(ctx context.Context, enc Appender, m *framing.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.appendContext(ctx, enc, m)
}

// appendContext is AppendContext with o.mu held.
func (o *Outbox) appendContext(ctx context.Context, enc Appender, m *framing.Message) error {
	size := len(m.Payload) + len(m.Ext)
	if size > o.limits.MaxMessageSize {
		return ErrTooLarge
	}
	full := func() bool { return o.pending > 0 && o.pending+size+encodeSlack > o.limits.OutboxLimit }
	if full() && o.refused == nil {
		stop := context.AfterFunc(ctx, func() {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.wakeWaiters()
		})
		defer stop()
	}
	for o.refused == nil && ctx.Err() == nil && full() {
		o.wait()
	}
	switch {
	case o.refused != nil:
		return o.refused
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return o.encode(enc, m, size+encodeSlack)
}

// encode encodes m at the end of the queue. need is the expected size in bytes; enc may
// write more. With o.mu held.
func (o *Outbox) encode(enc Appender, m *framing.Message, need int) error {
	t := o.queue.tail
	if t == nil || t.space() < need {
		t = newBlock(o.queue.nextSize(need))
		defer func() { // also after a panic of enc: a lost block would count for ever
			if t != o.queue.tail {
				t.free()
			}
		}()
	}
	before := len(t.b)
	b, err := enc.Append(t.b, m)
	if err != nil || len(b) == before { // some framings encode a message as nothing
		return err
	}
	t.b = b
	o.pending += len(b) - before
	o.messages++
	t.messages++
	if t != o.queue.tail {
		o.queue.push(t)
	}
	return nil
}

// pushFront puts b, of n bytes and so many messages, at the front of the queue. With
// o.mu held.
func (o *Outbox) pushFront(b *block, messages, n int) {
	o.messages += messages
	o.pending += n
	o.queue.pushFront(b)
}

// appendControl queues a copy of b, a whole control frame, before all messages that the
// writer has not begun. It fails with ErrWouldBlock if 4 KiB of control frames wait
// already. With o.mu held.
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

// take detaches everything queued, as one chain in the order of writing. A partly
// written block comes first, so that control frames never land inside a message, and
// control frames that were put back come before new ones.
func (o *Outbox) take() *block {
	chain := o.queue.take()
	c := o.control
	if c == nil {
		return chain
	}
	o.control = nil
	at := &chain
	for *at != nil && ((*at).off > 0 || (*at).control || (*at).rest) {
		at = &(*at).next
	}
	c.next, *at = *at, c
	return chain
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
	o.wakeWaiters()
	return chain
}

// Next returns the bytes to write next, borrowed until Done, or nil if nothing is
// queued. It does not block. Only one goroutine may call it at a time.
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

// Done reports that the first n bytes of the last Next were written.
func (o *Outbox) Done(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.taken = o.written(o.taken, n)
}

// Pending returns the number of bytes queued and not yet Done.
func (o *Outbox) Pending() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.pending
}

// Close makes every later Append fail with reason. Queued bytes stay and can still be
// written. It wakes AwaitRoom and AppendContext.
func (o *Outbox) Close(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.refused == nil {
		o.refused = reason
	}
	o.wakeWaiters()
}

// Discard drops everything queued, and closes the outbox if it is open.
func (o *Outbox) Discard(reason error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.discard(reason)
}

// discard is Discard with o.mu held. It keeps the block of the last Next until Done:
// the writer may be using it.
func (o *Outbox) discard(reason error) {
	if o.refused == nil {
		o.refused = reason
	}
	o.pending -= freeChain(o.take())
	o.wakeWaiters()
}

// AwaitRoom blocks while more than OutboxSoftMark bytes are queued, until at most half
// of that is. A stream's reader calls it before it reads, so that a peer that does not
// read its replies cannot request more. It returns at once if the outbox is closed. Do
// not call it from a callback or a loop.
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

// wait waits until bytes were written, or the outbox was closed.
func (o *Outbox) wait() {
	if o.space == nil {
		o.space = sync.NewCond(&o.mu)
	}
	o.space.Wait()
}

// wakeWaiters makes AwaitRoom and AppendContext check again.
func (o *Outbox) wakeWaiters() {
	if o.space != nil {
		o.space.Broadcast()
	}
}
