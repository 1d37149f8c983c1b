package cpu

import (
	"runtime"
	"slices"
)

// allowed is read while the package is initialized. That happens on the main thread, before any
// thread can have been pinned. A later call would return the mask of one thread, which might be a
// pinned one: the main thread is pinned too, if the scheduler happens to run a worker on it.
var allowed = readAllowed()

// Allowed returns the numbers of the CPUs that the process was allowed to use when it started, in
// ascending order; there is at least one. On Linux this is the affinity mask that taskset(1) or a
// cpuset set, as sched_getaffinity(2) gives it; elsewhere, and if the mask can't be read, it is 0
// to runtime.NumCPU()-1. It does not include a quota of CPU time (cgroup cpu.max); GOMAXPROCS does.
// The caller owns the slice. Allowed may be called from any goroutine and doesn't block.
func Allowed() []int { return slices.Clone(allowed) }

// firstCPUs returns 0 to runtime.NumCPU()-1.
func firstCPUs() []int {
	cpus := make([]int, runtime.NumCPU())
	for i := range cpus {
		cpus[i] = i
	}
	return cpus
}
