package main

import (
	"math"
	"runtime/debug"
	"testing"
)

// TestMemoryLimitFlag: with --memory-limit the garbage collector has a limit above that of
// the sessions, and none after the program.
func TestMemoryLimitFlag(t *testing.T) {
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		t.Skipf("GOMEMLIMIT is %d", n)
	}
	t.Run("while it serves", func(t *testing.T) {
		startEcho(t, "--memory-limit", "256MiB")
		if n := debug.SetMemoryLimit(-1); n < 256<<20 || n > 256<<20*13/10 {
			t.Errorf("the limit of the heap is %d", n)
		}
	})
	if n := debug.SetMemoryLimit(-1); n != math.MaxInt64 {
		t.Errorf("after the program the limit of the heap is %d", n)
	}
}
