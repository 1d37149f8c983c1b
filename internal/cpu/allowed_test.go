package cpu

import (
	"runtime"
	"slices"
	"testing"
)

func TestAllowed(t *testing.T) {
	cpus := Allowed()
	if len(cpus) != runtime.NumCPU() {
		t.Fatalf("%d CPUs %v, but the runtime counts %d", len(cpus), cpus, runtime.NumCPU())
	}
	if !slices.IsSorted(cpus) || cpus[0] < 0 || len(slices.Compact(slices.Clone(cpus))) != len(cpus) {
		t.Fatalf("not ascending: %v", cpus)
	}
	cpus[0] = -1
	if Allowed()[0] == -1 {
		t.Fatal("the slice is shared with other callers")
	}
}
