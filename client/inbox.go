package client

import (
	"sync"

	"github.com/millrace/millrace/framing"
)

// MaxEventBytes is how many bytes of received messages wait for their reader
// before the client stops reading from the peer; it reads on below half of it.
const MaxEventBytes = 1 << 20

// eventOverhead is what a message counts beside its payload and extension
// header, in bytes, so that empty messages are bounded too. It is about the
// size of the node that holds one.
const eventOverhead = 128

// reader is the part of a session that an inbox holds back.
type reader interface {
	Pause()
	Resume()
}

// inbox is the queue of messages between the event loop, which never waits for
// it, and the goroutine that ranges over Events. It is bounded by pausing the session, so
// nothing is ever dropped from it.
type inbox struct {
	session reader
	ready   sync.Cond // a message came, or the end; its L is &mu

	mu     sync.Mutex // guards what follows
	head   *node      // the oldest message
	tail   *node
	bytes  int
	paused bool  // the session was paused by this inbox
	reason error // why the session ended; nil before
	told   bool  // the Closed event was handed out
}

// node is a message in an inbox's list, made and kept as one allocation.
type node struct {
	m    framing.Message
	next *node
}

func (n *node) size() int { return eventOverhead + len(n.m.Payload) + len(n.m.Ext) }

func newInbox(session reader) *inbox {
	b := &inbox{session: session}
	b.ready.L = &b.mu
	return b
}

// push queues a copy of m and pauses the session when that fills the inbox.
// Messages that the session still delivers then are queued as well: they are
// what it had received already.
func (b *inbox) push(m *framing.Message) {
	n := &node{m: *m.Clone()}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tail == nil {
		b.head = n
	} else {
		b.tail.next = n
	}
	b.tail = n
	b.bytes += n.size()
	if !b.paused && b.bytes >= MaxEventBytes {
		b.paused = true
		b.session.Pause()
	}
	b.ready.Signal()
}

// next waits for the next event. ok is false when there will be none any more.
func (b *inbox) next() (ev Event, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.head == nil && b.reason == nil {
		b.ready.Wait()
	}
	if n := b.head; n != nil {
		b.pop(n)
		return Event{Kind: Message, Message: &n.m}, true
	}
	if b.told {
		return Event{}, false
	}
	b.told = true
	return Event{Kind: Closed, Err: b.reason}, true
}

// pop takes the head n off the list, with b.mu held, and lets the session read
// on when half of the inbox is free.
func (b *inbox) pop(n *node) {
	b.head, n.next = n.next, nil
	if b.head == nil {
		b.tail = nil
	}
	b.bytes -= n.size()
	if b.paused && b.bytes <= MaxEventBytes/2 {
		b.paused = false
		b.session.Resume()
	}
}

// end makes Closed, with reason, the event after the messages queued so far.
func (b *inbox) end(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reason = reason
	b.ready.Broadcast()
}
