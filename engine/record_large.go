package engine

import (
	"sync"

	"github.com/millrace/millrace/framing"
)

// A largeMessage is a message too large for a ring record. It is passed by reference, in
// a block of its own.
type largeMessage struct {
	m     framing.Message // aliases block
	block *block
}

// largeTable holds a core's large messages between their producer and the consumer. The
// garbage collector does not scan the ring's bytes, so records contain an index of this
// table instead of a pointer.
type largeTable struct {
	mu    sync.Mutex // guards the fields below
	items []*largeMessage
	free  []uint32
	bytes int // reserved for blocks
	limit int // of bytes; an empty table takes one message of any size
}

// reserve returns an index for a message in a block of size bytes; false if the
// table is full.
func (t *largeTable) reserve(size int) (uint32, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bytes > 0 && t.bytes+size > t.limit {
		return 0, false
	}
	t.bytes += size
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i, true
	}
	t.items = append(t.items, nil)
	return uint32(len(t.items) - 1), true
}

// put stores l under an index that was reserved for its block's size.
func (t *largeTable) put(i uint32, l *largeMessage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items[i] = l
}

// release frees an index and the size bytes reserved with it.
func (t *largeTable) release(i uint32, size int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.items[i] = nil
	t.free = append(t.free, i)
	t.bytes -= size
}

// take removes and returns the message at index i. Its bytes no longer count, although
// the caller frees its block only after the callback.
func (t *largeTable) take(i uint32) *largeMessage {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.items[i]
	t.items[i] = nil
	t.free = append(t.free, i)
	t.bytes -= cap(l.block.b)
	return l
}

// crowded reports whether the table is more than half full.
func (t *largeTable) crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes > t.limit/2
}

// largeSize is the size of the block that copyLarge makes for m.
func largeSize(m *framing.Message) int { return blockSize(len(m.Ext) + len(m.Payload)) }

// copyLarge returns a largeMessage with a copy of m.
func copyLarge(m *framing.Message) *largeMessage {
	b := newBlock(len(m.Ext) + len(m.Payload))
	b.b = append(b.b, m.Ext...)
	b.b = append(b.b, m.Payload...)
	l := &largeMessage{m: *m, block: b}
	l.m.Ext = b.b[:len(m.Ext):len(m.Ext)]
	l.m.Payload = b.b[len(m.Ext):]
	return l
}
