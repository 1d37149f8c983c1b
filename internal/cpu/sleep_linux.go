package cpu

import (
	"time"

	"golang.org/x/sys/unix"
)

// Sleep blocks the calling thread for about d, or less if a signal arrives. For a goroutine
// that is locked to its thread it is cheaper than time.Sleep, which switches threads.
func Sleep(d time.Duration) {
	t := unix.NsecToTimespec(d.Nanoseconds())
	_ = unix.Nanosleep(&t, nil)
}
