package cpu

import (
	"runtime"
	"sync"
)

// lent is what Lend added to GOMAXPROCS and Return has not taken away again.
var lent struct {
	mu sync.Mutex
	n  int
}

// Procs returns GOMAXPROCS as the program or the machine set it: without what
// Lend added.
func Procs() int {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	return max(runtime.GOMAXPROCS(0)-lent.n, 1)
}

// Lend raises GOMAXPROCS by n, for n goroutines that will spend their lives in
// blocking system calls (epoll_wait, futex). Each keeps its place among the
// GOMAXPROCS running ones while it sleeps, until the runtime's monitor takes it
// away 20 µs to 10 ms later; with no more places than CPUs a goroutine that
// has been woken would wait so long for one. It stops the world for a moment.
func Lend(n int) {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + n)
	lent.n += n
}

// Return takes back what Lend added.
func Return(n int) {
	lent.mu.Lock()
	defer lent.mu.Unlock()
	runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0)-n, 1))
	lent.n -= n
}
