package cpu

import "golang.org/x/sys/unix"

// maxCPUs is the most CPUs that a Linux kernel is built for (CONFIG_NR_CPUS); sched_getaffinity(2)
// refuses a set that is too small for its kernel.
const maxCPUs = 8192

func readAllowed() []int {
	cpus, err := affinity()
	if err != nil || len(cpus) == 0 {
		return firstCPUs()
	}
	return cpus
}

// affinity returns the CPUs that the calling thread may run on, in ascending order.
func affinity() ([]int, error) {
	set := unix.NewCPUSet(maxCPUs)
	if err := unix.SchedGetaffinityDynamic(0, set); err != nil {
		return nil, err
	}
	cpus := make([]int, 0, set.Count())
	for cpu := 0; len(cpus) < cap(cpus); cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus, nil
}
