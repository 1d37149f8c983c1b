package cpu

import (
	"runtime"
	"slices"
)

// allowed is read while the package is initialized, which happens on the main thread before any thread can have been
// pinned. Asked later, the system would answer for one thread, and that might be a pinned one: the main thread is pinned
// too, if the scheduler happens to run a worker on it.
var allowed = readAllowed()

// Allowed returns the numbers of the CPUs that the process was allowed to use when it started, in ascending order; there
// is at least one. On Linux this is the affinity mask that taskset(1) or a cpuset set, as sched_getaffinity(2) gives it;
// elsewhere, and where the mask can't be read, it is 0 to runtime.NumCPU()-1. A quota of CPU time (cgroup cpu.max) isn't
// part of it; GOMAXPROCS heeds that. The slice is the caller's. Allowed may be called from anywhere and doesn't block.
func Allowed() []int { return slices.Clone(allowed) }

// firstCPUs returns 0 to n-1, where n is the number of CPUs that the runtime knows of.
func firstCPUs() []int {
	cpus := make([]int, runtime.NumCPU())
	for i := range cpus {
		cpus[i] = i
	}
	return cpus
}
