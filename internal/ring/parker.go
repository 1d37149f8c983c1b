package ring

import "sync/atomic"

const (
	awake  = 0 // The consumer runs, or is about to look for work again: no need to wake it.
	parked = 1 // The consumer sleeps, or will unless it finds work when it looks once more.
)

// Parker is where a ring's consumer sleeps. One thread parks; any goroutine wakes it. The zero value is ready, and awake.
// A Parker must not be copied after first use.
//
// To sleep, the consumer calls Arm, then looks once more for work, and then calls Disarm if there is some and Park if
// there is none. A producer makes its work visible (commits) and then calls Wake, which costs one atomic load as long as
// the consumer is awake.
//
// No wake-up is lost, because Go's atomic operations behave as if in one order that all agree on (The Go Memory Model,
// "Atomic Values"). The consumer stores parked and then loads the work; the producer stores the work and then loads the
// state. Whichever store comes first in that order, the other side's load comes after it: either the consumer sees the
// work and doesn't sleep, or the producer sees parked and wakes. The look and the sleep need not be one step, since
// sleeping begins by comparing the state with parked once more, in the kernel (or is a receive from a channel that
// already holds the wake-up). This holds only if the consumer's look at the work is itself an atomic load, as
// [Ring.Ready]'s is.
type Parker struct {
	_     [lineSize]byte // Producers read state all the time: no one else's writes may share its line.
	state atomic.Uint32
	_     [lineSize]byte

	parks atomic.Uint64
	sleep sleeper
}

// Arm announces that the consumer is about to park. Only the consumer may call it, and must look for work after it and
// before Park.
func (p *Parker) Arm() { p.state.Store(parked) }

// Disarm takes back Arm, because there is work after all. Only the consumer may call it.
func (p *Parker) Disarm() { p.state.Store(awake) }

// Park blocks until Wake has been called since Arm; if that has happened already, or Arm has not been called, it returns
// at once. Only the consumer may call it. A Wake may be for work that was found already, so Park's return promises none.
//
// On Linux it blocks the calling OS thread in the kernel and leaves the goroutine on it, so that a consumer locked to its
// thread resumes without a switch of threads; elsewhere it blocks the goroutine. On Linux therefore the scheduler takes
// back the thread's share of GOMAXPROCS only when it notices, some tens of microseconds later. So GOMAXPROCS should leave
// room for one thread more than the parked one, or producers wait for that each time.
func (p *Parker) Park() {
	if p.state.Load() != parked {
		return
	}
	p.parks.Add(1)
	p.sleep.wait(&p.state)
}

// Wake ends the consumer's sleep, or keeps it from falling asleep, if it has called Arm; otherwise it does nothing. It
// may be called from any goroutine and doesn't block or allocate. Of several calls at a time one does the work.
func (p *Parker) Wake() {
	if p.state.Load() == parked && p.state.CompareAndSwap(parked, awake) {
		p.sleep.wake(&p.state)
	}
}

// Parks returns how many times Park has gone to sleep. It may be called from any goroutine.
func (p *Parker) Parks() uint64 { return p.parks.Load() }
