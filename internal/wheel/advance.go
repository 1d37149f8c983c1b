package wheel

import (
	"math"
	"math/bits"
)

// Advance moves the wheel to nowTick and calls fire for every timer whose deadline is at or before
// it, in the order of their deadlines (in no particular order within a tick). A nowTick before the
// last one counts as the last one: time doesn't go back. The cost is proportional to the number of
// timers that fire or change their level, not to the ticks that have passed, so a long gap costs
// nothing extra.
//
// A timer is disarmed before it fires. The callback may schedule and cancel any timer, its own and
// those about to fire included. A timer that it schedules fires in a later Advance, at nowTick+1 at
// the earliest. If it panics, the timers not yet fired stay armed and fire in the next Advance. It
// must not call Advance.
func (w *Wheel[T]) Advance(nowTick int64, fire func(t *Timer[T])) {
	now := max(uint64(max(nowTick, 0)), w.now)
	// All due timers are moved to the list due before the first one fires, so every callback sees a
	// wheel at nowTick.
	for {
		level, slot, start := w.earliest()
		if level == levelCount || start > now {
			break
		}
		w.now = start
		w.empty(level, slot)
	}
	w.now = now
	for t := w.due; t != nil; t = w.due {
		w.unlink(t)
		w.armed--
		fire(t)
	}
}

// Next returns a tick before which no timer fires. If it is near, usually a timer fires at it. The
// caller may sleep until then, and must then call Advance. If no timer is armed, ok is false.
func (w *Wheel[T]) Next() (tick int64, ok bool) {
	if w.armed == 0 {
		return 0, false
	}
	if w.due != nil {
		return int64(w.now), true
	}
	_, _, start := w.earliest()
	return int64(min(start, math.MaxInt64)), true
}

// earliest returns the first slot in order of time whose bit is set, and the first tick of its
// span; or level == levelCount if there is none.
func (w *Wheel[T]) earliest() (level int, slot int, start uint64) {
	for level, used := range w.used {
		if used == 0 {
			continue
		}
		slot := bits.TrailingZeros64(used)
		shift := level * levelBits
		// The digits above the level are those of now, the digits below it are zero. In Go a shift
		// by more than the width gives 0, as the top level needs.
		above := w.now >> (shift + levelBits) << (shift + levelBits)
		return level, slot, above | uint64(slot)<<shift
	}
	return levelCount, 0, 0
}

// empty takes all timers out of the slot whose span begins now. On level 0 they are due; on other
// levels they move to a lower level, because they now agree with now in one more digit.
func (w *Wheel[T]) empty(level, slot int) {
	w.used[level] &^= 1 << slot
	t := w.slots[level][slot]
	w.slots[level][slot] = nil
	for t != nil {
		next := t.next
		if level == 0 {
			w.appendDue(t)
		} else {
			w.place(t)
		}
		t = next
	}
}

// appendDue puts a timer that is in no list at the end of due.
func (w *Wheel[T]) appendDue(t *Timer[T]) {
	if w.due == nil {
		w.dueEnd = &w.due
	}
	t.next, t.link = nil, w.dueEnd
	*w.dueEnd = t
	w.dueEnd = &t.next
}
