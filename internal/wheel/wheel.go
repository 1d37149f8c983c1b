// Package wheel manages a large number of timers at low cost: to set, move or cancel one takes
// constant time and no allocation.
//
// It is the hierarchical timing wheel (scheme 7) of Varghese and Lauck, "Hashed and Hierarchical
// Timing Wheels" (SOSP 1987). A tick is the unit in which the caller counts time. Timers are
// intrusive: a [Timer] is a field of its owner, so an owner without an armed timer pays 32 bytes.
package wheel

import "math/bits"

const (
	levelBits = 6              // log2 of slotCount: one bitmap word a level.
	slotCount = 1 << levelBits // Slots a level.
	slotMask  = slotCount - 1

	// levelCount levels cover all 64-bit ticks, so no deadline is too far away; yet a wheel is
	// under 6 KiB.
	levelCount = (64 + levelBits - 1) / levelBits
)

// Wheel is a set of timers. The zero value is an empty wheel at tick 0; if ticks don't start near
// 0, call Advance once before the first Schedule, which saves timers a few moves. A Wheel must not
// be copied after first use, and all its methods must be called from one goroutine at a time. None
// blocks or allocates. An armed timer keeps its owner from being collected for as long as the wheel
// is reachable.
//
// Ticks are read as numbers of eleven digits of six bits. A timer is kept on the level of the
// highest digit in which its deadline differs from now, in the slot of that digit's value there.
// Outside of Advance these hold:
//
//  1. Every timer in a slot has a deadline after now. Since it agrees with now in all digits above
//     its level and is greater in the digit of its level, slots never wrap around: a slot stands
//     for exactly one span of ticks, which begins after now.
//  2. All spans of a level come before those of the levels above it. So the lowest slot of the
//     lowest level in use is the earliest.
//  3. A slot that holds a timer has its bit set. The bit of an empty slot may be set too: Cancel
//     doesn't compute the slot and leaves the bit, and Advance clears it later.
//  4. There are timers in due only during a callback, or after a panic in one; their deadlines are
//     reached and they wait to be fired.
type Wheel[T any] struct {
	_ noCopy

	now    uint64             // The last tick that was advanced to.
	armed  int                // Timers in slots and in due.
	used   [levelCount]uint64 // A bit for each slot.
	slots  [levelCount][slotCount]*Timer[T]
	due    *Timer[T]  // Reached, not fired yet, in order of deadline.
	dueEnd **Timer[T] // Where to append to due; nil if due has never been used.
}

// Len returns the number of armed timers.
func (w *Wheel[T]) Len() int { return w.armed }

// Schedule arms t to fire at deadlineTick, or moves it there if it is armed. A deadline that is
// reached already (at or before the last tick given to Advance) counts as the next tick, so that a
// timer fires from Advance only, and at most once in each. A timer must not be armed in two wheels.
func (w *Wheel[T]) Schedule(t *Timer[T], deadlineTick int64) {
	if t.link != nil {
		w.unlink(t)
	} else {
		w.armed++
	}
	t.deadline = max(uint64(max(deadlineTick, 0)), w.now+1)
	w.place(t)
}

// Cancel disarms t and reports whether it was armed. A timer is no longer armed when it fires.
func (w *Wheel[T]) Cancel(t *Timer[T]) bool {
	if t.link == nil {
		return false
	}
	w.unlink(t)
	w.armed--
	return true
}

// place links a timer whose deadline is now or later into the slot that it belongs to.
func (w *Wheel[T]) place(t *Timer[T]) {
	// The lowest digit of the difference doesn't matter: deadlines that differ from now in no other
	// are on level 0.
	level := (bits.Len64((t.deadline^w.now)|slotMask) - 1) / levelBits
	slot := t.deadline >> (level * levelBits) & slotMask
	w.used[level] |= 1 << slot
	t.push(&w.slots[level][slot])
}

// unlink takes a timer out of its slot or out of due.
func (w *Wheel[T]) unlink(t *Timer[T]) {
	if w.dueEnd == &t.next {
		w.dueEnd = t.link
	}
	t.unlink()
}
