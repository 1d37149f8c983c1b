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

// sleeper sleeps on the state word itself, with futex(2). With a channel instead, a consumer that
// is locked to its thread would need two thread switches for each wake-up: the scheduler runs a
// woken goroutine on any free thread, which must then pass it to the thread to which it is locked.
type sleeper struct{}

// wait blocks the calling thread while the state is parked. The kernel compares and falls asleep in
// one step, so a wake-up between the caller's check and the sleep isn't lost.
func (sleeper) wait(state *atomic.Uint32) {
	for state.Load() == parked {
		// This is not a raw system call, so the scheduler is informed and the garbage collector
		// needn't wait for a sleeping thread. After every result the loop checks the state again:
		// woken, EAGAIN (no longer parked), EINTR (a signal).
		_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWaitPrivate, parked, 0, 0, 0)
	}
}

// wake wakes the thread that waits on state, if there is one. It doesn't block, so a raw system
// call is enough.
func (sleeper) wake(state *atomic.Uint32) {
	_, _, _ = unix.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(state)), futexWakePrivate, 1, 0, 0, 0)
}
