package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

type stormSettings struct {
	rounds, threads, most int
	duration              time.Duration
	reset, rivals         bool
}

func setupStorm(fs *flag.FlagSet) (check func() error, run body) {
	var set stormSettings
	fs.IntVar(&set.rounds, "rounds", 5, "rounds, servers in turn")
	fs.DurationVar(&set.duration, "duration", 2*time.Second, "time a run")
	fs.IntVar(&set.threads, "threads", 2, "client threads, each with 128 connections at a time")
	fs.IntVar(&set.most, "connections", 1_000_000, "the most connections a run and thread")
	fs.BoolVar(&set.reset, "reset", true, "clients close by a reset; false means an orderly end, which leaves TIME_WAIT")
	fs.BoolVar(&set.rivals, "rivals", true, "run gnet and Go net too, which are built from bench/peers")
	check = func() error {
		return errors.Join(between("rounds", set.rounds, 1, 50), between("threads", set.threads, 1, 64),
			between("connections", set.most, 1, 10_000_000), between("duration", set.duration, time.Millisecond, time.Minute))
	}
	return check, func(ctx context.Context, log *progress) (*report, error) { return storm(ctx, log, set) }
}

// The last one is the rival of the goal.
var stormContestants = []contestant{
	{name: "Millrace, inline", transport: "tcp", inline: true},
	{name: "Millrace, workers", transport: "tcp"},
	{name: "Go net", transport: "tcp", rival: "gonet"},
	{name: "gnet", transport: "tcp", rival: "gnet"},
}

func storm(ctx context.Context, log *progress, set stormSettings) (r *report, err error) {
	contestants := stormContestants
	if !set.rivals {
		contestants = contestants[:2]
	}
	servers, stop, err := startAll(ctx, contestants)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	r = &report{}
	t := r.addTable("connections opened, asked once, verified and closed", column{"connections", perSecond},
		column{"server CPU each", nanos}, column{"to the last", plainRatio})
	rows := make([]*row, len(servers))
	for i, s := range servers {
		rows[i] = t.addRow(s.name)
	}
	for round := range set.rounds {
		log.printf("round %d of %d", round+1, set.rounds)
		rates := make([]float64, len(servers))
		costs := make([]float64, len(servers))
		for i, s := range servers {
			if rates[i], costs[i], err = stormRun(ctx, s, set); err != nil {
				return r, fmt.Errorf("%s: %w", s.name, err)
			}
		}
		last := rates[len(rates)-1]
		for i, row := range rows {
			row.add(rates[i], costs[i], rates[i]/last)
		}
	}
	r.note("client and server share the CPUs; CPU a connection is more reliable than the rate")
	if set.rivals {
		inline, workers := median(rows[0].Cells[2]), median(rows[1].Cells[2])
		got := fmt.Sprintf("inline %s, workers %s of gnet's rate", human(inline, plainRatio), human(workers, plainRatio))
		r.addGoal("as many connections a second as gnet's acceptor", got, max(inline, workers) >= 1)
	}
	return r, nil
}

// stormRun loads one server, and returns connections a second and nanoseconds
// of the server's CPU for each.
func stormRun(ctx context.Context, s *running, set stormSettings) (rate, cpu float64, err error) {
	addr, err := s.addr()
	if err != nil {
		return 0, 0, err
	}
	before, err := cpuTime(s.pid)
	if err != nil {
		return 0, 0, err
	}
	var made atomic.Int64
	failures := make(chan error, set.threads)
	var threads sync.WaitGroup
	start := time.Now()
	for i := range set.threads {
		threads.Go(func() {
			f := newFleet(s.transport, addr, loopbacks(2+40*i, 40))
			f.reset = set.reset
			defer f.close()
			for left := set.most; left > 0 && time.Since(start) < set.duration && ctx.Err() == nil; left -= stormBatch {
				n := min(left, stormBatch)
				if err := f.open(n); err != nil {
					failures <- err
					return
				}
				f.close()
				made.Add(int64(n))
			}
		})
	}
	threads.Wait()
	elapsed := time.Since(start)
	close(failures)
	if err := <-failures; err != nil {
		return 0, 0, err
	}
	if ctx.Err() != nil {
		return 0, 0, context.Cause(ctx)
	}
	if s.server != nil {
		// No session may remain.
		if err := awaitSessions(ctx, s.server, 0); err != nil {
			return 0, 0, err
		}
	}
	after, err := cpuTime(s.pid)
	n := float64(made.Load())
	return n / elapsed.Seconds(), float64(after-before) / n, err
}

// stormBatch is how many connections a thread has at a time.
const stormBatch = 128
