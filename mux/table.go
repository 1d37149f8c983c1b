package mux

import (
	"sync"

	"github.com/millrace/millrace/framing"
)

// shrinkAbove is up to how many requests at the same time a table keeps its map
// when it becomes empty. A Go map never shrinks by itself.
const shrinkAbove = 256

// table holds the pending requests of one session. Only the goroutine that takes a
// call out of it may answer that call or free it. So calls can be pooled safely.
type table struct {
	mu     sync.Mutex // guards the fields below
	calls  map[uint32]*call
	peak   int   // the most calls at once since the map was made
	reason error // the session's close reason; nil before its end
}

// add adds c under the first ID from nextID that is free. IDs repeat after 2^32
// messages, when an old request may still wait under one. add fails with
// ErrTooManyPending if the table holds maxPending calls, and with the close reason
// if the session has ended.
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
	// done gets exactly one answer, from the goroutine that took the call out of
	// its table. Its capacity is 1, so that an event loop never blocks on it.
	done    chan answer
	request framing.Message // the message to send; borrows the caller's bytes
}

// answer is a Response that owns its bytes, or the error.
type answer struct {
	m   *framing.Message
	err error
}

var callPool = sync.Pool{New: func() any { return &call{done: make(chan answer, 1)} }}

// newCall returns a call that sends m as a Request.
func newCall(m *framing.Message) *call {
	c := callPool.Get().(*call)
	c.request = *m
	c.request.Type = framing.Request
	return c
}

// free returns c to the pool. c must be in no table, and its answer, if any,
// received.
func (c *call) free() {
	c.request = framing.Message{}
	callPool.Put(c)
}
