package engine

import (
	"time"

	"github.com/millrace/millrace/internal/reactor"
	"github.com/millrace/millrace/internal/wheel"
)

// A session has one timer in its core's wheel, armed for the earliest of its
// deadlines, each a tick or 0 for none. Reading and writing don't touch it: a
// deadline that turns out to be too early when the timer fires is moved on.
// Everything here runs on the loop.

// ticksOf is d in ticks, rounded up.
func ticksOf(d time.Duration) int64 {
	return int64((d + tickInterval - 1) / tickInterval)
}

// deadline is the first tick at which d has passed from now.
func (c *core) deadline(d time.Duration) int64 {
	c.setTick() // the loop may have been held up since the last one
	return c.tick + ticksOf(d) + 1
}

func (c *core) setTick() { c.tick = c.engine.ticks() }

// ticks is the time now, in ticks.
func (e *Engine) ticks() int64 { return int64(time.Since(e.epoch) / tickInterval) }

// lateTicks is by how much the loop may be late without having been held up.
const lateTicks = 2

// tickTask fires the timers that are due. When the loop was held up the sockets
// have their turn first: what makes a deadline met may lie in them.
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

// lateTick is a tick after the sockets had their turn.
type lateTick core

// OnEvent fires the timers that are due.
func (l *lateTick) OnEvent(reactor.Event) { (*core)(l).advance() }

func (c *core) advance() {
	c.advanced = c.tick
	c.wheel.Advance(c.tick, func(t *wheel.Timer[Session]) { t.Owner.onTimer() })
	c.timers.Store(int64(c.wheel.Len()))
}

// arm sets the session's timer to its earliest deadline.
func (s *Session) arm() {
	next := s.phaseEnds
	for _, d := range [...]int64{s.idleEnds(), s.resumeAt(), s.writeEnds} {
		if d != 0 && (next == 0 || d < next) {
			next = d
		}
	}
	c := s.core
	if next == 0 {
		c.wheel.Cancel(&s.timer)
	} else {
		c.wheel.Schedule(&s.timer, next)
	}
	c.timers.Store(int64(c.wheel.Len()))
}

// disarm cancels the timer for good.
func (s *Session) disarm() {
	s.core.wheel.Cancel(&s.timer)
	s.core.timers.Store(int64(s.core.wheel.Len()))
}

// idleEnds is when the session will have been idle for too long.
func (s *Session) idleEnds() int64 {
	if d := s.core.engine.cfg.IdleTimeout; d > 0 && s.opened && !s.lingering {
		return s.lastRead + ticksOf(d) + 1
	}
	return 0
}

// onTimer handles what is due, and arms the timer for what isn't.
func (s *Session) onTimer() {
	now := s.core.tick
	if at := s.resumeAt(); at != 0 && at <= now {
		s.throttle.resumeAt = 0
		s.unblockRead()
	}
	if s.writeEnds != 0 && s.writeEnds <= now {
		s.writeDeadline()
	}
	if s.phaseEnds != 0 && s.phaseEnds <= now {
		s.phaseEnds = 0
		s.phaseDeadline()
	}
	if idle := s.idleEnds(); idle != 0 && idle <= now && !s.inputDone {
		if s.readBlocks.Load() > 0 || s.core.stalled.Load() {
			s.lastRead = now // it is us who don't read
		} else {
			s.endAfterMessages(ErrIdleTimeout)
		}
	}
	if !s.destroyed && !s.timer.Armed() {
		s.arm()
	}
}

// phaseDeadline ends a phase that took too long.
func (s *Session) phaseDeadline() {
	switch {
	case s.lingering:
		s.end(ErrConnectionLost, true) // the first reason stays
	case s.opened:
	case s.codec == nil && s.tail == nil && s.listener != nil && s.listener.fallback != nil && s.refusal == nil && !s.headerDue && s.mayFallBack():
		s.adopt(s.listener.fallback)
	default:
		s.inputDone = true
		s.end(ErrHandshakeTimeout, false)
	}
}

// writeDeadline ends a session whose peer has taken nothing for too long. The
// writer notes its progress by ticks, so the deadline moves on with it.
func (s *Session) writeDeadline() {
	s.writeEnds = 0
	if !s.blocked.Load() {
		return
	}
	limit := ticksOf(s.core.engine.cfg.WriteTimeout)
	if moved := s.lastWrite.Load(); moved+limit >= s.core.tick {
		s.writeEnds = moved + limit + 1
		return
	}
	s.end(ErrWriteTimeout, true)
}

// armWriteTask starts the write deadline of a session whose socket is full.
func armWriteTask(arg any) error {
	s := arg.(*Session)
	if s.destroyed {
		return nil
	}
	ends := s.core.deadline(s.core.engine.cfg.WriteTimeout)
	s.lastWrite.Store(s.core.tick)
	if s.writeEnds == 0 {
		s.writeEnds = ends
		s.arm()
	}
	return nil
}

// startPhase gives the session's present phase d to end; 0 means for ever.
func (s *Session) startPhase(d time.Duration) {
	s.phaseEnds = 0
	if d > 0 {
		s.phaseEnds = s.core.deadline(d)
	}
	s.arm()
}

// runTicker ticks the cores that have timers, until the engine stops.
func (e *Engine) runTicker() {
	defer e.running.Done()
	t := time.NewTicker(tickInterval)
	defer t.Stop()
	for {
		select {
		case <-e.stop:
			return
		case <-t.C:
		}
		for _, c := range e.cores {
			if c.timers.Load() > 0 && c.ticking.CompareAndSwap(false, true) {
				_ = c.loop.Trigger(tickTask, c)
			}
		}
	}
}
