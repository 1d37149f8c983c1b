package ring

import (
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

const (
	// MinSize is the capacity in bytes of the smallest ring.
	MinSize = 4 << 10
	// MaxSize is the capacity in bytes of the largest ring.
	MaxSize = 1 << 30

	// headerSize is the size in bytes of a record's header, and the alignment of every record.
	headerSize = 8

	// lineSize is the distance in bytes between fields that different threads write. It is two
	// 64-byte cache lines, because x86 prefetches lines in pairs, and one line on Apple's
	// processors.
	lineSize = 128
)

// Ring is a bounded queue of byte records with many producers and one consumer. Make one with
// [New]; the zero value is not usable. A Ring must not be copied. No method blocks or allocates.
//
// Positions count bytes since the ring was made and never wrap (2^64 bytes last for centuries); the
// offset in memory is the position modulo the capacity. The invariants are:
//
//  1. head <= tail <= head + capacity. [head, tail) belongs to claims and records; the rest is free.
//  2. Every byte of the free part is zero. So the header of a claim reads as zero, which means "not
//     committed", from the moment the claim is made until its owner commits it. The consumer
//     maintains this: it zeroes released space before it moves head. A producer that returns space
//     must not have written there.
//  3. Between moving the tail and committing, only the claimer owns the claimed bytes. The consumer
//     stops at an uncommitted header, so head can't pass a claim.
//  4. A record or padding starts at a multiple of headerSize and never wraps around the end of
//     memory. If a record doesn't fit before the end, its claimer covers the rest with padding and
//     claims from the start.
//  5. Only a claim whose end is still the tail may be returned, and only before it is committed. So
//     head never passes a tail that was seen, unless that claim was committed; then the tail
//     doesn't return to that value. If the tail does return to an earlier value, all space after it
//     is free and zero again. So a compare-and-swap of the tail has no ABA problem.
//
// Writes of one side are visible to the other because each transfer of ownership uses an atomic:
// the header from producer to consumer, head (directly or through cachedHead) from consumer to
// producer, tail from producer to producer.
type Ring struct {
	// Set once by New.
	words []uint64 // The memory as words, for headers and zeroing; the garbage collector doesn't scan it.
	bytes []byte   // The same memory as bytes.
	mask  uint64   // Capacity in bytes minus one.

	// Written by every producer.
	_    [lineSize]byte
	tail atomic.Uint64 // The position where the next claim starts.

	// Written by a producer that found too little space with it. It may be less than head, never
	// more.
	_          [lineSize]byte
	cachedHead atomic.Uint64

	// Written by the consumer once a batch.
	_    [lineSize]byte
	head atomic.Uint64 // Everything before this position has been read, zeroed and released.

	// Only the consumer uses these.
	_        [lineSize]byte
	cursor   uint64 // The position of the next record to read; head <= cursor <= tail.
	released uint64 // Equals head; saves the consumer an atomic load.
	_        [lineSize]byte
}

// New returns an empty ring of sizeBytes, rounded up to a power of two and to at least [MinSize].
// It panics if sizeBytes is more than [MaxSize].
func New(sizeBytes int) *Ring {
	if sizeBytes > MaxSize {
		panic(fmt.Sprintf("ring: size of %d bytes is more than %d", sizeBytes, MaxSize))
	}
	size := MinSize
	if sizeBytes > MinSize {
		size = 1 << bits.Len(uint(sizeBytes-1))
	}
	words := make([]uint64, size/headerSize)
	return &Ring{
		words: words,
		bytes: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), size),
		mask:  uint64(size - 1),
	}
}

// Cap returns the capacity in bytes, headers included.
func (r *Ring) Cap() int { return len(r.bytes) }

// MaxRecord returns the size in bytes of the largest payload that may be claimed: a quarter of the
// capacity. An empty ring has space for it at every position of the tail.
func (r *Ring) MaxRecord() int { return len(r.bytes) / 4 }

// Depth returns how many bytes are in use by claims, records and padding that have not been
// released. It may be called from any goroutine. The result may be slightly out of date; it is
// always between 0 and Cap.
func (r *Ring) Depth() int {
	// The consumer may move on between the two loads, so the difference can exceed the capacity;
	// loaded in this order it can't be negative, because the tail is never less than a head that
	// was loaded before.
	head := r.head.Load()
	return int(min(r.tail.Load()-head, uint64(len(r.bytes))))
}

// Empty reports whether the ring held nothing at some moment during the call: no claim was open,
// and every record had been read and released. It may be called from any goroutine. To decide
// whether to sleep, the consumer must use [Ring.Ready] instead, so that an open claim doesn't keep
// it awake.
func (r *Ring) Empty() bool {
	// Head never decreases and never passes the tail, so if the later load of tail equals the
	// earlier one of head, then head was equal to tail at the time of the later load.
	head := r.head.Load()
	return r.tail.Load() == head
}

// header returns the header word of the record at a position.
func (r *Ring) header(position uint64) *uint64 {
	return &r.words[(position&r.mask)/headerSize]
}

// store publishes a header: all that the caller wrote before becomes visible to the consumer.
func (r *Ring) store(position uint64, length int32, kind uint32) {
	atomic.StoreUint64(r.header(position), uint64(kind)<<32|uint64(uint32(length)))
}

// aligned returns the bytes that a record with this payload occupies.
func aligned(payloadSize int) uint64 {
	return (uint64(payloadSize) + 2*headerSize - 1) &^ (headerSize - 1)
}
