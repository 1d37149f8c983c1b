package mux

import (
	"sync"

	"github.com/millrace/millrace/framing"
)

// shrinkAbove is how many pending requests a table may have held at once and
// still keep its map when it empties. A Go map never shrinks by itself.
const shrinkAbove = 256

// table holds the pending requests of one session. The goroutine that
// takes a call out of it, and no other, answers that call or gives it back to the
// pool: so calls can be used again safely.
type table struct {
	mu     sync.Mutex // guards what follows
	calls  map[uint32]*call
	peak   int   // the most calls at once since the map was made
	reason error // why the session ended; nil before
}

// add enters c under the first id from nextID that is free: after 2^32 messages
// ids come round again, and an old request may still wait under one. It fails
// with ErrTooManyPending when the table holds maxPending calls, and with the
// close reason when the session has ended.
func (t *table) add(c *call, nextID func() uint32, maxPending int) (id uint32, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.reason != nil:
		return 0, t.reason
	case len(t.calls) >= maxPending:
		return 0, ErrTooManyPending
	case t.calls == nil:
		t.calls = make(map[uint32]*call)
	}
	for id = nextID(); t.calls[id] != nil; {
		id = nextID()
	}
	t.calls[id] = c
	t.peak = max(t.peak, len(t.calls))
	return id, nil
}

// take removes and returns the call that waits under id, or nil.
func (t *table) take(id uint32) *call {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.calls[id]
	if c == nil {
		return nil
	}
	delete(t.calls, id)
	if len(t.calls) == 0 && t.peak > shrinkAbove {
		t.calls, t.peak = nil, 0
	}
	return c
}

// close fails every pending call, and every later add, with reason.
func (t *table) close(reason error) {
	t.mu.Lock()
	calls := t.calls
	t.calls, t.reason = nil, reason
	t.mu.Unlock()
	for _, c := range calls {
		c.done <- answer{err: reason}
	}
}

// call is one request that waits for its answer.
type call struct {
	// done gets exactly one answer, from the goroutine that took the call out
	// of its table. It has room for it, so that an event loop never waits here.
	done    chan answer
	request framing.Message // what is sent; borrows the caller's bytes
}

// answer is a Response that owns its bytes, or why there is none.
type answer struct {
	m   *framing.Message
	err error
}

var callPool = sync.Pool{New: func() any { return &call{done: make(chan answer, 1)} }}

// newCall returns a call that asks what m says, as a Request.
func newCall(m *framing.Message) *call {
	c := callPool.Get().(*call)
	c.request = *m
	c.request.Type = framing.Request
	return c
}

// free gives c back. It is in no table any more and its answer, if there was
// one, was received.
func (c *call) free() {
	c.request = framing.Message{}
	callPool.Put(c)
}
