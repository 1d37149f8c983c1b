package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/millrace/millrace/bench"
)

type largeSettings struct {
	rounds, sessions int
	duration         time.Duration
	rivals           bool
}

// largeLoads are the sizes, in bytes, and how many of them a session has in
// flight: more than the socket's buffers hold.
var largeLoads = []struct{ size, inFlight int }{{64 << 10, 16}, {1 << 20, 3}}

var largeContestants = []contestant{
	{name: "Millrace, inline", transport: "tcp", inline: true},
	{name: "Millrace, workers", transport: "tcp"},
	{name: "Millrace WebSocket, inline", transport: "ws", inline: true},
	{name: "Millrace WebSocket, workers", transport: "ws"},
	{name: "Go net", transport: "tcp", rival: "gonet"},
	{name: "gnet", transport: "tcp", rival: "gnet"},
}

func setupLarge(fs *flag.FlagSet) (check func() error, run body) {
	var set largeSettings
	fs.IntVar(&set.rounds, "rounds", 5, "rounds, servers in turn")
	fs.IntVar(&set.sessions, "sessions", 4, "sessions")
	fs.DurationVar(&set.duration, "duration", time.Second, "measured time a run")
	fs.BoolVar(&set.rivals, "rivals", true, "run gnet and Go net too, which are built from bench/peers")
	check = func() error {
		return errors.Join(between("rounds", set.rounds, 1, 50), between("sessions", set.sessions, 1, 100),
			between("duration", set.duration, 10*time.Millisecond, time.Minute))
	}
	return check, func(ctx context.Context, log *progress) (*report, error) { return large(ctx, log, set) }
}

func large(ctx context.Context, log *progress, set largeSettings) (r *report, err error) {
	contestants := largeContestants
	if !set.rivals {
		contestants = contestants[:4]
	}
	servers, stop, err := startAll(ctx, contestants)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return nil, err
	}
	r = &report{}
	for _, load := range largeLoads {
		t := r.addTable(fmt.Sprintf("echo of %s, %d sessions x %d in flight", human(float64(load.size), byteCount), set.sessions, load.inFlight),
			column{"one way", bytesASec}, column{"messages", perSecond}, column{"server CPU a MiB", nanos},
			column{"p50", nanos}, column{"server RSS", byteCount}, column{"to Millrace inline", plainRatio})
		for _, s := range servers {
			t.addRow(s.name)
		}
		for round := range set.rounds {
			log.printf("%s: round %d of %d", human(float64(load.size), byteCount), round+1, set.rounds)
			var base float64
			for i, s := range servers {
				values, err := largeRun(ctx, s, set, load.size, load.inFlight)
				if err != nil {
					return r, fmt.Errorf("%s, %s: %w", s.name, human(float64(load.size), byteCount), err)
				}
				if i == 0 {
					base = values[0]
				}
				t.Rows[i].add(append(values, values[0]/base)...)
			}
		}
	}
	r.note("the client compares every byte of every reply with the expected byte, on the same CPUs")
	return r, nil
}

// largeRun loads one server and returns its values but the ratio.
func largeRun(ctx context.Context, s *running, set largeSettings, size, inFlight int) (values []float64, err error) {
	var clocks [2]time.Duration
	result, err := loadServer(ctx, s, bench.Config{
		Sessions: set.sessions, InFlight: inFlight, Size: size,
		Duration: set.duration, Warmup: set.duration / 4,
	}, &clocks)
	if err != nil {
		return nil, err
	}
	memory, err := processMemory(s.pid)
	if err != nil {
		return nil, err
	}
	bytes := float64(result.Messages) * float64(size)
	return []float64{
		bytes / result.Duration.Seconds(), result.Rate, float64(clocks[1]-clocks[0]) / bytes * (1 << 20),
		float64(result.LatencyP50), float64(memory.RSS),
	}, nil
}

// longerRuns is how often a run in which no message came back in time is made
// again, each time for twice as long.
const longerRuns = 5

// loadServer runs the load generator against s, and fails unless every reply
// was verified. clocks are the server's CPU time at both ends of the measured
// time.
func loadServer(ctx context.Context, s *running, cfg bench.Config, clocks *[2]time.Duration) (*bench.Result, error) {
	var clockErr error
	read := func(i int) func() {
		return func() {
			var err error
			clocks[i], err = cpuTime(s.pid)
			clockErr = errors.Join(clockErr, err)
		}
	}
	cfg.URL, cfg.Raw, cfg.AtStart, cfg.AtEnd = s.url, s.raw, read(0), read(1)
	result, err := bench.Run(ctx, cfg)
	for range longerRuns {
		if err != nil || result.Errors > 0 || result.Messages > 0 {
			break
		}
		// Every reply arrived, but none within the measured time, because the machine is busy.
		cfg.Duration *= 2
		result, err = bench.Run(ctx, cfg)
	}
	switch {
	case err != nil:
		return nil, err
	case clockErr != nil:
		return nil, clockErr
	case result.Errors > 0:
		return nil, fmt.Errorf("%d sessions failed: %s", result.Errors, result.FirstError)
	case result.Messages == 0:
		return nil, errors.New("no message came back in time")
	}
	return result, nil
}
