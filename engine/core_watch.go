package engine

import (
	"time"

	"github.com/millrace/millrace/internal/ring"
)

// watchInterval is how long a worker's turn may last before the watch acts. With the
// time that the kernel takes to wake two threads, a callback stops its core's reading for
// less than two intervals and a half.
const watchInterval = 400 * time.Microsecond

// watchRest is how many intervals without progress of any worker the watch waits before
// it sleeps.
const watchRest = 4

// A watch finds workers that run callbacks in the same turn for a whole interval. It marks
// them as late, which makes them flush, and wakes their readers. An engine has one, for all
// its cores. It sleeps while no worker makes progress, and the next callback wakes it. So
// an idle engine uses no CPU time. A worker calls Wake before it runs callbacks.
//
// The watch does not sleep through a callback: it stores parked, then checks the turns,
// while a worker stores its turn, then checks for parked (see ring.Parker).
type watch struct {
	ring.Parker
}

// runWatch is the goroutine of the watch.
func runWatch(e *Engine) {
	defer e.running.Done()
	seen := make([]uint64, len(e.cores))
	for rest := 0; !e.dead.Load(); {
		time.Sleep(watchInterval) // not a system call of ours: the runtime's monitor would poll for it each 20 us
		if e.look(seen) {
			rest = 0
		} else if rest++; rest == watchRest {
			rest = 0
			e.watch.Arm()
			if e.dead.Load() || e.look(seen) {
				e.watch.Disarm()
			} else {
				e.watch.Park()
			}
		}
	}
}

// look compares the turn of every core with the one that it has seen before, and reports
// whether a worker has made progress, or a reader was woken.
func (e *Engine) look(seen []uint64) (active bool) {
	for i, c := range e.cores {
		w := c.roles.Load()
		if turn := w &^ roleMask; turn != seen[i] {
			seen[i] = turn
			active = true
			continue
		}
		if w&roleMask != workerReads && !c.late.Load() {
			c.late.Store(true)
		}
		if w&roleMask == readingLent {
			c.stuck.Store(w)
			c.reader.Wake()
			active = true
		}
	}
	return active
}
