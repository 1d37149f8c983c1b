package cpu

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
)

func TestLendAndReturn(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	for _, step := range []struct {
		lend, back int
		want       int // lent in all: the largest loan
	}{
		{lend: 3, want: 3}, {lend: 2, want: 3}, {lend: 5, want: 5},
		{back: 3, want: 5}, {back: 5, want: 2}, {lend: 2, want: 2}, {back: 2, want: 2}, {back: 2},
	} {
		if step.lend > 0 {
			Lend(step.lend)
		} else {
			Return(step.back)
		}
		if n := runtime.GOMAXPROCS(0); n != before+step.want {
			t.Errorf("%+v: GOMAXPROCS is %d, not %d + %d", step, n, before, step.want)
		}
		if n := Procs(); n != before {
			t.Errorf("%+v: Procs is %d, not %d", step, n, before)
		}
	}
}

// A number that the program sets while something is lent stays.
func TestReturnLeavesWhatTheProgramSet(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.SetDefaultGOMAXPROCS()
	Lend(3)
	runtime.GOMAXPROCS(before + 1)
	if n := Procs(); n != before+1 {
		t.Errorf("Procs is %d, not %d", n, before+1)
	}
	Lend(2)
	if n := runtime.GOMAXPROCS(0); n != before+4 {
		t.Errorf("GOMAXPROCS is %d, not %d", n, before+4)
	}
	Return(2)
	Return(3)
	if n := runtime.GOMAXPROCS(0); n != before+1 {
		t.Errorf("GOMAXPROCS is %d, not %d", n, before+1)
	}
	Lend(3)
	runtime.GOMAXPROCS(before + 5)
	Return(3)
	if n := runtime.GOMAXPROCS(0); n != before+5 {
		t.Errorf("GOMAXPROCS is %d, not %d", n, before+5)
	}
}

const lendVariable = "MILLRACE_TEST_LEND"

// TestReturnGivesTheDefaultBack runs in processes of its own. Whether the runtime follows changes
// again is seen by changing the CPUs that the process may use: its affinity on Linux. A chosen
// number stays.
func TestReturnGivesTheDefaultBack(t *testing.T) {
	if set := os.Getenv(lendVariable); set != "" {
		if set == "program" {
			runtime.GOMAXPROCS(runtime.NumCPU() + 2)
		}
		Lend(3)
		Lend(2)
		Return(3)
		Return(2)
		fmt.Println("in the end:", runtime.GOMAXPROCS(0), followsChanges())
		return
	}
	for _, c := range []struct {
		set, environment string
		want             string
	}{
		{"nobody", "GOMAXPROCS=", fmt.Sprint(runtime.NumCPU(), " ", canFollow)},
		{"program", "GOMAXPROCS=", fmt.Sprint(runtime.NumCPU()+2, " false")},
		{"environment", "GOMAXPROCS=3", "3 false"},
	} {
		child := exec.Command(os.Args[0], "-test.run=^TestReturnGivesTheDefaultBack$")
		child.Env = append(os.Environ(), lendVariable+"="+c.set, c.environment)
		output, err := child.CombinedOutput()
		if want := "in the end: " + c.want + "\n"; err != nil || !strings.Contains(string(output), want) {
			t.Errorf("set by %s: %v, %q, want %q", c.set, err, output, want)
		}
	}
}
