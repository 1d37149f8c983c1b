package ring

import "sync/atomic"

const (
	awake  = 0 // The consumer runs, or is about to check for work again: it need not be woken.
	parked = 1 // The consumer sleeps, or will sleep unless its last check finds work.
)

// Parker is where a ring's consumer sleeps. One thread parks; any goroutine wakes it. The zero
// value is ready, and awake. A Parker must not be copied after first use.
//
// To sleep, the consumer calls Arm, checks once more for work, and then calls Disarm if there is
// some and Park if there is none. A producer makes its work visible (commits) and then calls Wake,
// which costs one atomic load as long as the consumer is awake.
//
// No wake-up is lost, because Go's atomic operations are sequentially consistent (The Go Memory
// Model, "Atomic Values"). The consumer stores parked and then loads the work; the producer stores
// the work and then loads the state. Whichever store comes first in that order, the other side's
// load comes after it: either the consumer sees the work and doesn't sleep, or the producer sees
// parked and wakes it. The check and the sleep need not be one atomic step, since the sleep begins
// with another comparison of the state with parked, in the kernel (or is a receive from a channel
// that already holds the wake-up). This requires that the consumer's check for work is an atomic
// load, as in [Ring.Ready].
type Parker struct {
	_     [lineSize]byte // Producers read state often: other fields that are written must not share its cache line.
	state atomic.Uint32
	_     [lineSize]byte

	parks atomic.Uint64
	sleep sleeper
}

// Arm announces that the consumer is about to park. Only the consumer may call it. It must check
// for work between Arm and Park.
func (p *Parker) Arm() { p.state.Store(parked) }

// Disarm undoes Arm, if there is work. Only the consumer may call it.
func (p *Parker) Disarm() { p.state.Store(awake) }

// Park blocks until Wake has been called since Arm; if that has happened already, or Arm has not
// been called, it returns at once. Only the consumer may call it. A Wake may be for work that was
// found already, so there may be no work when Park returns.
//
// On Linux it blocks the calling OS thread in the kernel and leaves the goroutine on it, so that a
// consumer locked to its thread resumes without a thread switch. On other systems it blocks the
// goroutine. So on Linux the scheduler retakes the thread's share of GOMAXPROCS only some tens of
// microseconds later. GOMAXPROCS should therefore be larger by one for each parked thread;
// otherwise producers wait for that each time.
func (p *Parker) Park() {
	if p.state.Load() != parked {
		return
	}
	p.parks.Add(1)
	p.sleep.wait(&p.state)
}

// If the consumer has called Arm, Wake ends its sleep, or prevents it; otherwise Wake does nothing.
// It may be called from any goroutine and doesn't block or allocate. Of several concurrent calls
// one does the work.
func (p *Parker) Wake() {
	if p.state.Load() == parked && p.state.CompareAndSwap(parked, awake) {
		p.sleep.wake(&p.state)
	}
}

// Parks returns how many times Park has gone to sleep. It may be called from any goroutine.
func (p *Parker) Parks() uint64 { return p.parks.Load() }
