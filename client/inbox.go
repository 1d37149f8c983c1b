package client

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/framing"
)

// eventOverhead is how many bytes a message counts in addition to its payload and
// extension header, so that empty messages are bounded too. It is about the size of
// a node.
const eventOverhead = 128

// reader has the methods of a session that an inbox uses to stop its reading.
type reader interface {
	Pause()
	Resume()
}

// use is how an application uses a client. It decides what a full inbox does.
type use uint8

const (
	unused use = iota // nothing was sent or received: the session is paused
	sends             // it sends, and has not received: messages are dropped
	reads             // it receives: the session is paused
)

// inbox is the queue of messages between the event loop, which never blocks on it,
// and the goroutine that receives. It is bounded by limit.
type inbox struct {
	session reader
	limit   int           // bytes
	ready   sync.Cond     // a message came, the end, or a context ended; its L is &mu
	used    atomic.Bool   // use is no longer unused
	dropped atomic.Uint64 // messages

	mu     sync.Mutex // guards the fields below
	use    use
	head   *node // the oldest message
	tail   *node
	bytes  int
	paused bool  // the session was paused by this inbox
	reason error // the session's close reason; nil before its end
	told   bool  // EventClosed was returned
}

// node is a message in an inbox's list, made and kept as one allocation.
type node struct {
	m    framing.Message
	next *node
}

func (n *node) size() int { return eventOverhead + len(n.m.Payload) + len(n.m.Ext) }

func newInbox(session reader, limit int) *inbox {
	b := &inbox{session: session, limit: limit}
	b.ready.L = &b.mu
	return b
}

// send records that the application sends. From then on a full inbox drops messages
// until the application receives, because a response may follow them.
func (b *inbox) send() {
	if !b.used.Load() {
		b.used.Store(true)
		b.begin(sends)
	}
}

// read records that the application receives.
func (b *inbox) read() {
	b.used.Store(true)
	b.begin(reads)
}

// begin changes the use of the inbox to u, unless it is already further.
func (b *inbox) begin(u use) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.use = max(b.use, u); b.use == sends {
		b.resume()
	}
}

// push queues a copy of m. If the inbox is full it drops m, or pauses the session,
// as use says. A paused session may still deliver messages that it had already
// received; push queues them too.
func (b *inbox) push(m *framing.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.use == sends && b.bytes >= b.limit {
		b.dropped.Add(1)
		return
	}
	n := &node{m: *m.Clone()}
	if b.tail == nil {
		b.head = n
	} else {
		b.tail.next = n
	}
	b.tail = n
	b.bytes += n.size()
	if !b.paused && b.use != sends && b.bytes >= b.limit {
		b.paused = true
		b.session.Pause()
	}
	b.ready.Signal()
}

// receive blocks until there is a message, and returns it, or until the session or
// ctx has ended.
func (b *inbox) receive(ctx context.Context) (*framing.Message, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.head == nil && b.reason == nil && ctx.Done() != nil {
		defer context.AfterFunc(ctx, b.wake)()
	}
	for b.head == nil && b.reason == nil && ctx.Err() == nil {
		b.ready.Wait()
	}
	switch n := b.head; {
	case n != nil: // even if ctx has ended: this goroutine may be the only one that was woken
		b.pop(n)
		return &n.m, nil
	case b.reason != nil:
		return nil, b.reason
	}
	return nil, context.Cause(ctx)
}

// wake makes receive look at its context.
func (b *inbox) wake() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ready.Broadcast()
}

// next blocks until there is an event and returns it. ok is false after EventClosed
// was returned.
func (b *inbox) next() (ev Event, ok bool) {
	m, err := b.receive(context.Background())
	if err == nil {
		return Event{Kind: EventMessage, Message: m}, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.told {
		return Event{}, false
	}
	b.told = true
	return Event{Kind: EventClosed, Err: err}, true
}

// pop removes the head n from the list, and resumes the session when half of the
// inbox is free. With b.mu held.
func (b *inbox) pop(n *node) {
	b.head, n.next = n.next, nil
	if b.head == nil {
		b.tail = nil
	}
	b.bytes -= n.size()
	if b.bytes <= b.limit/2 {
		b.resume()
	}
}

// resume resumes a session that this inbox paused. With b.mu held.
func (b *inbox) resume() {
	if b.paused {
		b.paused = false
		b.session.Resume()
	}
}

// end queues EventClosed, with reason, after the messages queued so far.
func (b *inbox) end(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reason = reason
	b.ready.Broadcast()
}
