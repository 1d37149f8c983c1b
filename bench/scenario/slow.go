package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/engine"
)

type slowSettings struct {
	rounds, sessions, inFlight int
	duration                   time.Duration
}

func setupSlow(fs *flag.FlagSet) (check func() error, run body) {
	var set slowSettings
	fs.IntVar(&set.rounds, "rounds", 5, "rounds: without and with slow readers in turn, each with a new server")
	fs.IntVar(&set.sessions, "sessions", 200, "fast sessions; a tenth as many slow ones come on top")
	fs.IntVar(&set.inFlight, "inflight", 1, "requests that a fast session keeps in flight")
	fs.DurationVar(&set.duration, "duration", 2*time.Second, "measured time a run")
	check = func() error {
		return errors.Join(between("rounds", set.rounds, 1, 50), between("sessions", set.sessions, 10, 5000),
			between("inflight", set.inFlight, 1, 1000), between("duration", set.duration, 10*time.Millisecond, time.Minute))
	}
	return check, func(ctx context.Context, log *progress) (*report, error) { return slow(ctx, log, set) }
}

// Bounds of a server's memory for slow readers. The engine stops reading from a session
// if its outbox is above the soft mark. So a session uses the soft mark, the bytes of
// one read, and the same amount again for the garbage collector. slowSlack is for rings,
// pools and the rest.
const (
	slowEach  = 2 * (engine.DefaultOutboxSoftMark + 2*engine.DefaultReadBufferSize) // bytes a session
	slowSlack = 16 << 20                                                            // bytes a server
)

var slowContestants = []contestant{
	{name: "inline", transport: "tcp", inline: true},
	{name: "workers", transport: "tcp"},
}

func slow(ctx context.Context, log *progress, set slowSettings) (*report, error) {
	r := &report{}
	slowOnes := set.sessions / 10
	t := r.addTable(fmt.Sprintf("%d fast sessions x %d in flight, without and with %d slow readers", set.sessions, set.inFlight, slowOnes),
		column{"fast messages", perSecond}, column{"to without", plainRatio}, column{"fast p50", nanos},
		column{"fast p99", nanos}, column{"server RSS, peak", byteCount}, column{"verified of slow ones", byteCount})
	for _, c := range slowContestants {
		t.addRow(c.name + ", without")
		t.addRow(c.name + ", with")
	}
	for round := range set.rounds {
		log.printf("round %d of %d", round+1, set.rounds)
		for i, c := range slowContestants {
			var base float64
			for j, readers := range []int{0, slowOnes} {
				v, err := slowRun(ctx, c, set, readers)
				if err != nil {
					return r, fmt.Errorf("%s: %w", t.Rows[2*i+j].Name, err)
				}
				if j == 0 {
					base = v.rate
				}
				t.Rows[2*i+j].add(v.rate, v.rate/base, v.p50, v.p99, v.peak, v.verified)
			}
		}
	}
	bound := float64(slowOnes*slowEach + slowSlack)
	for i, c := range slowContestants {
		more := median(t.Rows[2*i+1].Cells[4]) - median(t.Rows[2*i].Cells[4])
		r.addGoal(fmt.Sprintf("%s: slow readers cost the server at most %s", c.name, human(bound, byteCount)),
			human(more, byteCount), more <= bound)
	}
	r.note("a slow reader asks as fast as it may and reads %d bytes every %v; all that it reads is verified", slowRead, slowPause)
	r.note("latency is closed-loop: a session that waits asks nothing meanwhile")
	return r, nil
}

// slowValues are the figures of one run.
type slowValues struct{ rate, p50, p99, peak, verified float64 }

func slowRun(ctx context.Context, c contestant, set slowSettings, readers int) (v slowValues, err error) {
	s, err := c.start(ctx, "")
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	addr, err := s.addr()
	if err != nil {
		return v, err
	}
	crawl, err := startSlowReaders(ctx, addr, readers)
	if err != nil {
		return v, err
	}
	defer func() { _ = crawl.stop() }() // its error is returned below, unless there was an earlier one
	if err := crawl.awaitStall(ctx); err != nil {
		return v, err
	}
	var clocks [2]time.Duration
	result, err := loadServer(ctx, s, bench.Config{
		Sessions: set.sessions, InFlight: set.inFlight, Size: 64, Duration: set.duration, Warmup: set.duration / 4,
	}, &clocks)
	if err != nil {
		return v, err
	}
	if err := checkStillThere(ctx, s.server, readers); err != nil {
		return v, err
	}
	if err := crawl.stop(); err != nil {
		return v, err
	}
	memory, err := processMemory(s.pid)
	if err != nil {
		return v, err
	}
	if most := int64(readers)*engine.DefaultOutboxLimit + 64<<20; memory.Peak > most {
		return v, fmt.Errorf("the server grew to %s for %d slow readers, above its limits", human(float64(memory.Peak), byteCount), readers)
	}
	if err := awaitSessions(ctx, s.server, 0); err != nil {
		return v, err
	}
	return slowValues{
		result.Rate, float64(result.LatencyP50), float64(result.LatencyP99), float64(memory.Peak), float64(crawl.verified.Load()),
	}, nil
}

// checkStillThere fails if the server closed a slow reader, or dropped a reply to it:
// the server must slow these sessions down, and not end them.
func checkStillThere(ctx context.Context, c *child, readers int) error {
	stats, err := ask[serverStats](ctx, c, "stats", struct{}{})
	if err == nil && (stats.Active < int64(readers) || stats.Dropped > 0) {
		err = fmt.Errorf("%d sessions are left of %d slow readers, and %d messages were dropped; closed: %v",
			stats.Active, readers, stats.Dropped, stats.Closed)
	}
	return err
}
