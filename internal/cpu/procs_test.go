package cpu

import (
	"runtime"
	"testing"
)

func TestLendAndReturn(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	Lend(3)
	Lend(2)
	if n := runtime.GOMAXPROCS(0); n != before+5 {
		t.Errorf("GOMAXPROCS is %d with 5 lent to %d", n, before)
	}
	if n := Procs(); n != before {
		t.Errorf("Procs is %d, not %d", n, before)
	}
	Return(2)
	Return(3)
	if n := runtime.GOMAXPROCS(0); n != before || Procs() != before {
		t.Errorf("GOMAXPROCS is %d in the end, not %d", n, before)
	}
}
