package engine

import (
	"math/bits"
	"sync"
)

// A block is a pooled buffer: an element of an outbox, a session's incomplete tail, or a
// message too large for the ring. Exactly one owner has it at a time, and returns it to
// the pool with free.
type block struct {
	b    []byte // filled part; cap is the block's size
	off  int    // bytes of b that were written already
	next *block // in a blockList

	messages int   // that begin in b, if an outbox filled it
	control  bool  // b holds control frames of an outbox
	shared   bool  // b is not the block's own memory: it is only read, and never pooled
	rest     bool  // b continues the last message of the block before it in an outbox
	shard    uint8 // of the account of memory
	counted  int   // bytes in that

	release func() // called when a shared block is freed, or nil
}

// Pooled blocks have sizes in powers of two, from 4 KiB to 2 MiB. Larger ones are
// allocated and garbage-collected.
const (
	minBlockBits = 12
	maxBlockBits = 21
	minBlockSize = 1 << minBlockBits
	maxBlockSize = 1 << maxBlockBits
)

var blockPools [maxBlockBits - minBlockBits + 1]sync.Pool

// blockBits returns the log2 of the smallest block that holds n bytes.
func blockBits(n int) int {
	return max(minBlockBits, bits.Len(uint(max(n, 1)-1)))
}

// blockSize returns the size of the block that newBlock returns for n bytes: n itself
// if such a block is not pooled.
func blockSize(n int) int {
	if log2 := blockBits(n); log2 <= maxBlockBits {
		return 1 << log2
	}
	return n
}

// newBlock returns an empty block of at least n bytes.
func newBlock(n int) *block {
	size := blockSize(n)
	var b *block
	if log2 := blockBits(n); log2 <= maxBlockBits {
		b, _ = blockPools[log2-minBlockBits].Get().(*block)
	}
	if b == nil {
		b = &block{b: make([]byte, 0, size), shard: randomShard()}
	}
	b.counted = size
	memory.addTo(b.shard, size)
	return b
}

// blockOf returns a block with a copy of b.
func blockOf(b []byte) *block {
	bl := newBlock(len(b))
	bl.b = append(bl.b, b...)
	return bl
}

// free returns the block to its pool. It must not be used afterwards.
func (b *block) free() {
	if b.shared {
		b.freeShared()
		return
	}
	memory.addTo(b.shard, -b.counted)
	b.counted = 0
	size := cap(b.b)
	if size < minBlockSize || size > maxBlockSize || size&(size-1) != 0 {
		return // too large, or grown by an encoder
	}
	b.b, b.off, b.next, b.messages, b.control = b.b[:0], 0, nil, 0, false
	blockPools[blockBits(size)-minBlockBits].Put(b)
}

// space returns how many bytes still fit.
func (b *block) space() int { return cap(b.b) - len(b.b) }

// freeChain frees b and the blocks after it, and returns how many of their bytes were
// not written.
func freeChain(b *block) (unwritten int) {
	for b != nil {
		next := b.next
		unwritten += len(b.b) - b.off
		b.free()
		b = next
	}
	return unwritten
}

// blockList is a queue of blocks. The zero value is empty.
type blockList struct{ head, tail *block }

// push adds b at the end.
func (l *blockList) push(b *block) {
	if l.tail == nil {
		l.head = b
	} else {
		l.tail.next = b
	}
	l.tail = b
}

// pushFront puts a chain of blocks, which may be nil, at the front of the list.
func (l *blockList) pushFront(chain *block) {
	if chain == nil {
		return
	}
	last := chain
	for last.next != nil {
		last = last.next
	}
	last.next = l.head
	l.head = chain
	if l.tail == nil {
		l.tail = last
	}
}

// take empties the list and returns its blocks as a chain.
func (l *blockList) take() *block {
	chain := l.head
	l.head, l.tail = nil, nil
	return chain
}

// remove takes the first block that match accepts out of the list, with the rests of its
// last message, and returns them as a chain; nil if there is none.
func (l *blockList) remove(match func(*block) bool) *block {
	prev, b := (*block)(nil), l.head
	for b != nil && !match(b) {
		prev, b = b, b.next
	}
	if b == nil {
		return nil
	}
	last := b
	for last.next != nil && last.next.rest {
		last = last.next
	}
	if prev == nil {
		l.head = last.next
	} else {
		prev.next = last.next
	}
	if l.tail == last {
		l.tail = prev
	}
	last.next = nil
	return b
}

// nextSize returns the size of a block to add for need bytes: up to four times the last
// one, so that a queue takes memory in proportion to its bytes, and at most 64 KiB,
// enough for one write; more only if need is larger.
func (l *blockList) nextSize(need int) int {
	if l.tail != nil && !l.tail.shared {
		need = max(need, min(4*cap(l.tail.b), 64<<10))
	}
	return need
}
