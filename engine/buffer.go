package engine

import (
	"math/bits"
	"sync"
)

// A block is a pooled buffer: a link of an outbox, a session's incomplete tail,
// or a message too large for the ring. Exactly one owner holds it at a time and
// gives it back with free.
type block struct {
	b    []byte // filled part; cap is the block's size
	off  int    // how much of b was already written out
	next *block // the outbox's next

	messages int  // in b, when an outbox filled it
	control  bool // b holds control frames of an outbox
}

// Pooled blocks are powers of two from 4 KiB to 2 MiB. Larger ones are left to
// the collector.
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

// newBlock returns an empty block of at least n bytes, of exactly n where it isn't
// pooled.
func newBlock(n int) *block {
	log2 := blockBits(n)
	if log2 <= maxBlockBits {
		if b, ok := blockPools[log2-minBlockBits].Get().(*block); ok {
			return b
		}
	}
	if log2 > maxBlockBits {
		return &block{b: make([]byte, 0, n)}
	}
	return &block{b: make([]byte, 0, 1<<log2)}
}

// blockOf returns a block with a copy of b.
func blockOf(b []byte) *block {
	bl := newBlock(len(b))
	bl.b = append(bl.b, b...)
	return bl
}

// free gives the block back. Nobody may touch it afterwards.
func (b *block) free() {
	size := cap(b.b)
	if size < minBlockSize || size > maxBlockSize || size&(size-1) != 0 {
		return // too large, or grown by an encoder: the collector's
	}
	b.b, b.off, b.next, b.messages, b.control = b.b[:0], 0, nil, 0, false
	blockPools[blockBits(size)-minBlockBits].Put(b)
}

// room is how many bytes still fit.
func (b *block) room() int { return cap(b.b) - len(b.b) }
