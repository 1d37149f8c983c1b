package cpu

import "fmt"

// Pin binds the calling OS thread to one CPU, by its number as in [Allowed]. Call it from a
// goroutine that has called runtime.LockOSThread; otherwise the binding applies to the goroutines
// that run on this thread next. Let the goroutine end without unlocking, so that the runtime
// doesn't use the bound thread for others. Threads that the runtime starts later don't inherit the
// binding from a locked thread.
//
// The error wraps the system's (on Linux that of sched_setaffinity(2): unix.EINVAL for a CPU that
// doesn't exist or isn't allowed), or errors.ErrUnsupported on systems without thread affinity. Pin
// doesn't block.
func Pin(cpu int) error {
	if err := pin(cpu); err != nil {
		return fmt.Errorf("cpu: pin thread to CPU %d: %w", cpu, err)
	}
	return nil
}
