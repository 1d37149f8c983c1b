package cpu

import (
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
)

// lent holds the additions of Lend to GOMAXPROCS that Return has not yet removed.
var lent struct {
	mu    sync.Mutex
	loans []int // of each lender
	base  int   // GOMAXPROCS without them
	fixed bool  // base was chosen by the program or the user; it is not the runtime's default
	set   int   // GOMAXPROCS with them
}

// Procs returns GOMAXPROCS as the program or the machine set it, without the additions of Lend. It
// may be called from any goroutine.
func Procs() int {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	now := runtime.GOMAXPROCS(0)
	if len(lent.loans) == 0 || now != lent.set {
		return now
	}
	return lent.base
}

// Lend raises GOMAXPROCS by n, for n goroutines that block in system calls most of the time
// (epoll_wait, futex). Such a goroutine keeps its P, one of GOMAXPROCS, while it sleeps, until the
// runtime's monitor retakes the P 20 µs to 10 ms later. With no more Ps than CPUs a woken goroutine
// would have to wait for that. Lend stops the world for a moment.
//
// Several lenders raise GOMAXPROCS by the largest of their loans, not by the sum. They share the
// CPUs, so their goroutines don't fall asleep more often than one lender's, and each additional P
// costs the garbage collector and the scheduler time.
//
// While there are loans, the runtime doesn't follow changes of the CPUs that it may use. If the
// program sets GOMAXPROCS meanwhile, its value applies until the next Lend, which adds to it.
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

// Return ends one loan of Lend; n must equal its argument. After the last loan GOMAXPROCS is as
// before the first one. If that was the runtime's default, the default applies again, with its
// automatic updates.
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

// chosen reports whether the environment or the program has set GOMAXPROCS, now the argument. The
// runtime has no call for that. So chosen sets the default and compares; if that differs, it
// restores the number. A chosen number that equals the default counts as the default.
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
