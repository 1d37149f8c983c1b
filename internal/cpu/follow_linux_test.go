package cpu

import (
	"os"
	"runtime"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

var canFollow = runtime.NumCPU() > 1

// followsChanges takes all CPUs but one away from the process, and reports whether
// GOMAXPROCS goes down to 1.
func followsChanges() bool {
	set := unix.NewCPUSet(maxCPUs)
	set.Set(Allowed()[0])
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return false
	}
	for _, thread := range threads {
		id, _ := strconv.Atoi(thread.Name())
		_ = unix.SchedSetaffinityDynamic(id, set)
	}
	// The runtime looks once a second, where goroutines run.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); {
		if runtime.GOMAXPROCS(0) == 1 {
			return true
		}
		runtime.Gosched()
	}
	return false
}
