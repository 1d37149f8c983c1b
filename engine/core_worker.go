package engine

import (
	"runtime"

	"github.com/millrace/millrace/internal/cpu"
)

// spinRounds is how often an idle worker checks its ring before it parks.
const spinRounds = 100

// runWorker is the goroutine of a core's worker, on an OS thread of its own that is
// pinned to one CPU. The thread ends with the goroutine.
func (c *core) runWorker() {
	defer c.engine.running.Done()
	defer close(c.workerExited)
	runtime.LockOSThread()
	allowed := cpu.Allowed()
	if err := cpu.Pin(allowed[c.index%len(allowed)]); err == nil {
		c.stats.pinned.Store(true)
	}
	if c.shared == nil {
		c.consume()
		return
	}
	if err := c.shared.RunRounds(c); err != nil {
		c.engine.cfg.Logger.Error("event loop ended", "core", c.index, "error", err)
	}
	for c.consumer.batch() {
	}
}

// consume handles the ring until the engine stops, for a worker that never reads.
func (c *core) consume() {
	for {
		for c.ring.Ready() {
			c.nextTurn()
			c.consumer.batch()
		}
		if c.stopping.Load() && c.ring.Empty() {
			return
		}
		c.idle()
	}
}

// idle waits for work: first it polls, then it parks.
func (c *core) idle() {
	for range spinRounds {
		if c.ring.Ready() {
			return
		}
	}
	c.parker.Arm()
	if c.ring.Ready() || c.stopping.Load() {
		c.parker.Disarm()
		return
	}
	c.parker.Park()
}
