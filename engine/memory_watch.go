package engine

import (
	"slices"
	"sync/atomic"
	"time"
)

// memoryWatch enforces an engine's Config.MemoryLimit, in three steps:
//
//	 80 %   new connections are refused
//	 90 %   sessions whose backlog is above the mark are not read
//	100 %   sessions with the largest backlogs above the mark are closed, until the rest is below
//
// A goroutine of the engine sums up the account when that has grown, and regularly while
// it is above the first step. Below that it sleeps.
type memoryWatch struct {
	engine   *Engine
	limit    int64 // bytes; negative means none
	asked    chan struct{}
	refusing atomic.Bool
	paused   atomic.Uint64 // times that a session was paused

	// Owned by the goroutine.
	pausing bool // sessions may be paused
}

const (
	memoryRefuse = 80 // percent
	memoryPause  = 90

	// memoryTick is how often the watch looks above the first step, and memoryRest the
	// least time between two looks. After closing sessions it waits for memoryTick: a
	// loop or a transport may have to free their buffers.
	memoryTick = 50 * time.Millisecond
	memoryRest = 2 * time.Millisecond

	// memoryDuty bounds the watch's use of a CPU: it rests so many times longer than a
	// look takes.
	memoryDuty = 8
)

func (w *memoryWatch) init(e *Engine) {
	w.engine, w.limit, w.asked = e, e.cfg.MemoryLimit, make(chan struct{}, 1)
}

func (w *memoryWatch) refuseAt() int64 { return w.limit / 100 * memoryRefuse }

// start starts the watch, if there is a limit.
func (w *memoryWatch) start() {
	memory.add(w.engine.cfg.coreMemory())
	if w.limit < 0 {
		return
	}
	memory.changeWatches(func(old []*memoryWatch) []*memoryWatch { return append(old, w) })
	w.engine.running.Add(1)
	go w.run()
}

// wake makes the watch look at the account.
func (w *memoryWatch) wake() {
	select {
	case w.asked <- struct{}{}:
	default:
	}
}

// stopped undoes start, when the goroutine has ended.
func (w *memoryWatch) stopped() {
	for _, c := range w.engine.cores {
		if b := c.consumer.replies.block; b != nil {
			b.free()
		}
	}
	memory.add(-w.engine.cfg.coreMemory())
	memory.changeWatches(func(old []*memoryWatch) []*memoryWatch {
		return slices.DeleteFunc(old, func(x *memoryWatch) bool { return x == w })
	})
}

// run is the watch's goroutine.
func (w *memoryWatch) run() {
	defer w.engine.running.Done()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		begun := time.Now()
		above, closed := w.look()
		rest := max(memoryRest, memoryDuty*time.Since(begun))
		if closed {
			rest = max(rest, memoryTick)
		}
		timer.Reset(rest)
		select {
		case <-w.engine.stop:
			return
		case <-timer.C:
		}
		if above {
			timer.Reset(memoryTick)
		}
		select {
		case <-w.engine.stop:
			return
		case <-w.asked:
		case <-timer.C: // stopped below the first step
		}
	}
}

// look makes the steps for the present sum. It reports whether the sum is above the first
// step, and whether sessions were closed.
func (w *memoryWatch) look() (above, closed bool) {
	memory.mu.Lock() // else two engines would close sessions for the same bytes
	defer memory.mu.Unlock()
	total := memory.total()
	above = total >= w.refuseAt()
	w.refusing.Store(above)
	switch {
	case total >= w.limit/100*memoryPause:
		over := w.pause()
		closed = w.relieve(over, total-w.limit)
	case w.pausing:
		w.pausing = false
		for s := range w.engine.all() {
			s.unblockReading(readMemory)
		}
	}
	return above, closed
}

// share returns how many bytes a session may buffer without being paused or closed, if its
// OutboxSoftMark is not less: half an equal share of the limit. So the sessions below it
// use at most half of the limit, and closing the others is enough.
func (w *memoryWatch) share() int64 { return w.limit / 2 / max(w.engine.active.Load(), 1) }

// backlogged is a session that buffers more than the mark.
type backlogged struct {
	session *Session
	bytes   int64
}

// pause stops reading the sessions above their mark, which is share or OutboxSoftMark. It
// resumes those that have fallen to half of it, and returns the former.
func (w *memoryWatch) pause() (over []backlogged) {
	share := w.share()
	for s := range w.engine.all() {
		n, mark := int64(s.conn.buffered()), min(share, int64(s.out.limits.OutboxSoftMark))
		paused := s.reading.Load()&readMemory != 0
		if n > mark {
			over = append(over, backlogged{s, n})
		}
		switch {
		case n > mark && !paused && s.closing.Load() == closingNot:
			w.pausing = true
			w.paused.Add(1)
			s.blockReading(readMemory)
		case n <= mark/2 && paused:
			s.unblockReading(readMemory)
		}
	}
	return over
}

// relieve closes sessions, the largest backlogs first, until they have buffered excess
// bytes. It reports whether it closed any.
func (w *memoryWatch) relieve(over []backlogged, excess int64) (closed bool) {
	if excess <= 0 {
		return false
	}
	slices.SortFunc(over, func(a, b backlogged) int { return int(b.bytes - a.bytes) })
	for _, b := range over {
		if excess <= 0 {
			break
		}
		b.session.conn.close(ErrMemoryLimit, true)
		excess -= b.bytes
		closed = true
	}
	return closed
}
