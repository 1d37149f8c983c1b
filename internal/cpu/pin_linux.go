package cpu

import "golang.org/x/sys/unix"

func pin(cpu int) error {
	// Checked here, because a CPUSet ignores numbers that are too large, and maps negative ones to
	// other CPUs.
	if cpu < 0 || cpu >= maxCPUs {
		return unix.EINVAL
	}
	set := unix.NewCPUSet(cpu + 1)
	set.Set(cpu)
	return unix.SchedSetaffinityDynamic(0, set)
}
