package bench

import (
	"context"
	"time"
)

const (
	seriesPoints  = 200                    // that a series has at most
	seriesSpacing = 100 * time.Millisecond // between its points, at least
	progressEvery = time.Second
)

// A watch waits, and samples the load meanwhile.
type watch struct {
	load *load
	ctx  context.Context

	toldAt  int64 // on the load's clock
	toldOf  int64 // replies then
	takenAt int64
	takenOf int64
}

// wait returns after d, or earlier when ctx ends or no session is left, with the
// rates meanwhile.
func (w *watch) wait(phase string, d time.Duration) (series []Point) {
	start := w.load.now()
	w.takenAt = start
	w.takenOf, _ = w.load.counts()
	every := max(seriesSpacing, d/seriesPoints)
	for w.ctx.Err() == nil && w.load.failures.Load() < int64(len(w.load.sessions)) {
		rest := d - time.Duration(w.load.now()-start)
		if rest <= 0 {
			break
		}
		timer := time.NewTimer(min(rest, every))
		select {
		case <-w.ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
		now := w.load.now()
		replies, _ := w.load.counts()
		if elapsed := now - w.takenAt; elapsed >= int64(every)/2 || len(series) == 0 {
			series = append(series, Point{time.Duration(now - start), perSecond(replies-w.takenOf, elapsed)})
			w.takenAt, w.takenOf = now, replies
		}
		w.tell(phase, now, replies)
	}
	return series
}

// tell calls Progress if it is due.
func (w *watch) tell(phase string, now, replies int64) {
	if w.load.cfg.Progress == nil || now-w.toldAt < int64(progressEvery) {
		return
	}
	w.load.cfg.Progress(Progress{
		Phase: phase, Elapsed: time.Duration(now), Verified: replies,
		Rate: perSecond(replies-w.toldOf, now-w.toldAt), Errors: int(w.load.failures.Load()),
	})
	w.toldAt, w.toldOf = now, replies
}

func perSecond(n, nanos int64) float64 { return float64(n) * 1e9 / float64(max(nanos, 1)) }
