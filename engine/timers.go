package engine

import (
	"time"

	"github.com/millrace/millrace/internal/wheel"
)

// A session has one timer in its core's wheel; what it means depends on the
// session's phase: the handshake's, the idle or the linger deadline. Reading
// doesn't touch it: an idle deadline that turns out to be too early when it
// fires is moved on. Everything here runs on the loop.

// ticksOf is d in ticks, rounded up.
func ticksOf(d time.Duration) int64 {
	return int64((d + tickInterval - 1) / tickInterval)
}

// schedule arms s's timer to fire d from now.
func (c *core) schedule(s *Session, d time.Duration) {
	if c.wheel.Len() == 0 {
		c.setTick() // no ticks came while nothing was armed
	}
	c.wheel.Schedule(&s.timer, c.tick+ticksOf(d)+1)
	c.timers.Store(int64(c.wheel.Len()))
}

func (c *core) cancel(s *Session) {
	c.wheel.Cancel(&s.timer)
	c.timers.Store(int64(c.wheel.Len()))
}

func (c *core) setTick() {
	c.tick = int64(time.Since(c.engine.epoch) / tickInterval)
}

// tickTask fires the timers that are due.
func tickTask(arg any) error {
	c := arg.(*core)
	c.ticking.Store(false)
	c.setTick()
	c.wheel.Advance(c.tick, func(t *wheel.Timer[Session]) { t.Owner.onTimer() })
	c.timers.Store(int64(c.wheel.Len()))
	return nil
}

func (s *Session) onTimer() {
	cfg := &s.engine.cfg
	switch {
	case s.lingering:
		s.end(ErrConnectionLost, true) // the first reason stays
	case !s.opened && s.codec == nil && s.tail == nil && s.listener != nil && s.listener.fallback != nil:
		s.adopt(s.listener.fallback)
	case !s.opened:
		s.inputDone = true
		s.end(ErrHandshakeTimeout, false)
	case cfg.IdleTimeout > 0:
		idle := s.core.tick - s.lastRead
		if limit := ticksOf(cfg.IdleTimeout); idle < limit {
			s.core.schedule(s, time.Duration(limit-idle)*tickInterval)
			return
		}
		s.endAfterMessages(ErrIdleTimeout)
	}
}

func (s *Session) armHandshake(d time.Duration) {
	if d > 0 {
		s.core.schedule(s, d)
	}
}

func (s *Session) armIdle() {
	if d := s.engine.cfg.IdleTimeout; d > 0 {
		s.core.schedule(s, d)
		s.lastRead = s.core.tick
	} else {
		s.core.cancel(s)
	}
}

func (s *Session) armLinger() {
	s.core.schedule(s, s.engine.cfg.LingerTimeout)
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
