package engine

import (
	"sync"

	"github.com/millrace/millrace/framing"
)

// A largeMessage is a message too large for the ring's share: it travels by
// reference, in a block of its own.
type largeMessage struct {
	m     framing.Message // aliases block
	block *block
}

// largeTable holds a core's large messages between their producer and the
// consumer. The ring is plain bytes that the collector doesn't scan, so records
// name an index here.
type largeTable struct {
	mu    sync.Mutex // guards what follows
	items []*largeMessage
	free  []uint32
	bytes int // held by blocks in the table
	limit int // of bytes; one message always fits
}

// put stores l and returns its index; false when the table is full.
func (t *largeTable) put(l *largeMessage) (uint32, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bytes > 0 && t.bytes+cap(l.block.b) > t.limit {
		return 0, false
	}
	t.bytes += cap(l.block.b)
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		t.items[i] = l
		return i, true
	}
	t.items = append(t.items, l)
	return uint32(len(t.items) - 1), true
}

// crowded reports whether the table is more than half full.
func (t *largeTable) crowded() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bytes > t.limit/2
}

// take removes and returns the message at index i.
func (t *largeTable) take(i uint32) *largeMessage {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.items[i]
	t.items[i] = nil
	t.free = append(t.free, i)
	t.bytes -= cap(l.block.b)
	return l
}

// copyLarge makes a largeMessage of a copy of m.
func copyLarge(m *framing.Message) *largeMessage {
	b := newBlock(len(m.Ext) + len(m.Payload))
	b.b = append(b.b, m.Ext...)
	b.b = append(b.b, m.Payload...)
	l := &largeMessage{m: *m, block: b}
	l.m.Ext = b.b[:len(m.Ext):len(m.Ext)]
	l.m.Payload = b.b[len(m.Ext):]
	return l
}
