package cpu

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// lent is what Lend added to GOMAXPROCS and Return has not taken away again.
var lent struct {
	mu    sync.Mutex
	loans []int // of each lender
	base  int   // GOMAXPROCS without them
	fixed bool  // base is somebody's choice, not the runtime's default
	set   int   // GOMAXPROCS with them
}

// Procs returns GOMAXPROCS as the program or the machine set it: without what
// Lend added.
func Procs() int {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	now := runtime.GOMAXPROCS(0)
	if len(lent.loans) == 0 || now != lent.set {
		return now
	}
	return lent.base
}

// Lend raises GOMAXPROCS by n, for n goroutines that will spend their lives in
// blocking system calls (epoll_wait, futex). Each keeps its place among the
// GOMAXPROCS running ones while it sleeps, until the runtime's monitor takes it
// away 20 µs to 10 ms later; with no more places than CPUs a goroutine that
// has been woken would wait so long for one. It stops the world for a moment.
//
// Several lenders raise it by the largest of their loans, not by the sum: they share
// the CPUs, so their goroutines don't fall asleep more often than one lender's, and
// each place more costs the garbage collector and the scheduler something.
//
// While anything is lent, the runtime doesn't follow changes of the CPUs that it may use.
// A program that sets GOMAXPROCS meanwhile gets what it set, until the next Lend.
func Lend(n int) {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	now := runtime.GOMAXPROCS(0)
	switch {
	case len(lent.loans) == 0:
		lent.base, lent.fixed = now, chosen(now)
	case now != lent.set:
		lent.base, lent.fixed = now, true
	}
	lent.loans = append(lent.loans, n)
	raise()
}

// Return takes back what Lend added. With the last loan GOMAXPROCS is what it was
// before the first; where nobody had chosen that number, it is the runtime's default
// again, with its automatic updates.
func Return(n int) {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	i := slices.Index(lent.loans, n)
	lent.loans = slices.Delete(lent.loans, i, i+1)
	switch {
	case runtime.GOMAXPROCS(0) != lent.set: // the program's choice
	case len(lent.loans) > 0:
		raise()
	case lent.fixed:
		runtime.GOMAXPROCS(lent.base)
	default:
		runtime.SetDefaultGOMAXPROCS()
	}
}

// raise sets GOMAXPROCS for the present loans. With lent.mu held.
func raise() {
	lent.set = lent.base + slices.Max(lent.loans)
	runtime.GOMAXPROCS(lent.set)
}

// chosen reports whether GOMAXPROCS is now what the environment or the program
// set, and not the runtime's default. The runtime doesn't tell, but its default is
// known when it is in force. A number that was chosen and is the default counts as default.
func chosen(now int) bool {
	if n, err := strconv.Atoi(os.Getenv("GOMAXPROCS")); err == nil && n > 0 {
		return true
	}
	runtime.SetDefaultGOMAXPROCS()
	if runtime.GOMAXPROCS(0) == now {
		return false
	}
	runtime.GOMAXPROCS(now)
	return true
}
