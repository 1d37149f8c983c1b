package client

import (
	"sync"

	"github.com/millrace/millrace/framing"
)

// MaxEventBytes is how many bytes of received messages may wait before the client
// stops reading from the peer. It resumes reading at half of that.
const MaxEventBytes = 1 << 20

// eventOverhead is how many bytes a message counts in addition to its payload and
// extension header, so that empty messages are bounded too. It is about the size of
// a node.
const eventOverhead = 128

// reader has the methods of a session that an inbox uses to stop its reading.
type reader interface {
	Pause()
	Resume()
}

// inbox is the queue of messages between the event loop, which never blocks on it,
// and the goroutine that ranges over Events. It is bounded by pausing the session,
// so nothing is ever dropped from it.
type inbox struct {
	session reader
	ready   sync.Cond // a message came, or the end; its L is &mu

	mu     sync.Mutex // guards the fields below
	head   *node      // the oldest message
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

func newInbox(session reader) *inbox {
	b := &inbox{session: session}
	b.ready.L = &b.mu
	return b
}

// push queues a copy of m and pauses the session when the inbox is full. The
// session may still deliver messages that it had already received; push queues them
// too.
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

// next blocks until there is an event and returns it. ok is false after EventClosed was
// returned.
func (b *inbox) next() (ev Event, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.head == nil && b.reason == nil {
		b.ready.Wait()
	}
	if n := b.head; n != nil {
		b.pop(n)
		return Event{Kind: EventMessage, Message: &n.m}, true
	}
	if b.told {
		return Event{}, false
	}
	b.told = true
	return Event{Kind: EventClosed, Err: b.reason}, true
}

// pop removes the head n from the list, and resumes the session when half of the
// inbox is free. With b.mu held.
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

// end queues EventClosed, with reason, after the messages queued so far.
func (b *inbox) end(reason error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reason = reason
	b.ready.Broadcast()
}
