package engine

import (
	"math"
	"time"

	"github.com/millrace/millrace/internal/reactor"
	"github.com/millrace/millrace/internal/wheel"
)

// tickInterval is the resolution of session deadlines.
const tickInterval = 50 * time.Millisecond

// ticksOf returns d in ticks, rounded up.
func ticksOf(d time.Duration) int64 {
	return int64(min(d, math.MaxInt64-tickInterval)+tickInterval-1) / int64(tickInterval)
}

// deadline returns the first tick at which d has passed from now. It does not
// overflow for any d.
func (c *core) deadline(d time.Duration) int64 {
	c.setTick() // the last tick may be long ago if the loop was blocked
	return c.tick + ticksOf(d) + 1
}

func (c *core) setTick() { c.tick = c.engine.ticks() }

// ticks returns the time since e.epoch, in ticks.
func (e *Engine) ticks() int64 { return int64(time.Since(e.epoch) / tickInterval) }

// lateTicks is how late a tick may run before the loop counts as blocked.
const lateTicks = 2

// tickTask fires the timers that are due. If the loop was blocked, it reads the
// ready sockets first: pending input may satisfy a deadline.
func tickTask(arg any) error {
	c := arg.(*core)
	c.ticking.Store(false)
	c.setTick()
	if c.tick-c.advanced > lateTicks {
		c.loop.Again((*lateTick)(c))
		return nil
	}
	c.advance()
	return nil
}

// lateTick is a tick after the ready sockets were read.
type lateTick core

// OnEvent fires the timers that are due.
func (l *lateTick) OnEvent(reactor.Event) { (*core)(l).advance() }

// advance fires the timers that are due.
func (c *core) advance() {
	c.advanced = c.tick
	c.wheel.Advance(c.tick, func(t *wheel.Timer[socketConn]) { t.Owner.onTimer() })
	c.countTimers()
}

// countTimers stores the number of armed timers for the ticker, and wakes it for the first.
// On the loop.
func (c *core) countTimers() {
	n := int64(c.wheel.Len())
	c.timers.Store(n)
	if e := c.engine; n > 0 && e.noTimers.Load() && e.noTimers.CompareAndSwap(true, false) {
		e.tick <- struct{}{}
	}
}

// runTicker ticks the cores that have timers, until the engine stops. It sleeps while no
// core has any. The first timer after that wakes it: the ticker stores noTimers, then
// checks the cores; a core stores its timers, then checks noTimers.
func runTicker(e *Engine) {
	defer e.running.Done()
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	for {
		if !e.tickCores() {
			e.noTimers.Store(true)
			if !e.tickCores() || !e.noTimers.CompareAndSwap(true, false) {
				t.Stop()
				select {
				case <-e.stop:
					return
				case <-e.tick:
				}
				t.Reset(tickInterval)
			}
		}
		select {
		case <-e.stop:
			return
		case <-t.C:
		}
	}
}

// tickCores ticks the cores that have timers, and reports whether there are any.
func (e *Engine) tickCores() (any bool) {
	for _, c := range e.cores {
		if c.timers.Load() > 0 {
			any = true
			if c.ticking.CompareAndSwap(false, true) {
				_ = c.loop.Trigger(tickTask, c)
			}
		}
	}
	return any
}
