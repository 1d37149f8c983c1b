package ring

import (
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The operations of futex(2), private to the process; see linux/futex.h.
const (
	futexWaitPrivate = 0 | 128
	futexWakePrivate = 1 | 128
)

// sleeper sleeps on the state word itself, with futex(2). The alternative, a channel, makes a consumer that is locked to
// its thread pay for two thread switches a wake-up: the scheduler runs a woken goroutine on whichever thread is free,
// which must then hand it over to the thread it is locked to.
type sleeper struct{}

// wait blocks the calling thread while the state is parked. The kernel compares and falls asleep in one step, so a wake
// between the caller's look and the sleep isn't lost.
func (sleeper) wait(state *atomic.Uint32) {
	for state.Load() == parked {
		// The scheduler is told of this system call (not a raw one), so the collector needn't wait for a sleeping
		// thread. All its outcomes are handled by looking again: woken, EAGAIN (no longer parked), EINTR (a signal).
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWaitPrivate, parked, 0, 0, 0)
	}
}

// wake wakes the thread that waits on state, if one does. It doesn't block, so the scheduler needn't hear of it.
func (sleeper) wake(state *atomic.Uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWakePrivate, 1, 0, 0, 0)
}
