package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/millrace/millrace/bench"
)

// errNoMessage: the server is slow or stuck, or the system doesn't schedule it.
var errNoMessage = errors.New("no message came back in time")

// measure starts g's contestants from dir and loads them, in turn within each
// round. When ctx ends or a run fails it returns the results so far, and the
// error.
func measure(ctx context.Context, g *group, dir string, set settings, progress io.Writer) (results []result, err error) {
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, c := range g.contestants {
		s, err := start(dir, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		servers = append(servers, s)
	}
	for _, sc := range g.scenarios {
		rate, err := offered(ctx, sc, servers, set)
		if err != nil {
			return results, fmt.Errorf("%s, %s: %w", g.name, sc, err)
		}
		r := result{group: g, scenario: sc, runs: map[string][]sample{}}
		for round := range set.rounds {
			fmt.Fprintf(progress, "%s, %s: round %d of %d\n", g.name, sc, round+1, set.rounds)
			for _, s := range servers {
				if !sc.has(s.contestant) {
					continue
				}
				got, err := s.load(ctx, sc, rate, set)
				if err != nil {
					if len(r.runs) > 0 {
						results = append(results, r)
					}
					return results, fmt.Errorf("%s, %s, %s: %w", g.name, s.name, sc, err)
				}
				r.runs[s.name] = append(r.runs[s.name], got)
			}
		}
		results = append(results, r)
	}
	return results, nil
}

// offered returns the rate of an open loop, in messages a second: half of the best rival's
// rate in a closed loop, the same for all servers. It is 0 for a closed loop.
func offered(ctx context.Context, sc scenario, servers []*server, set settings) (rate float64, err error) {
	if !sc.half {
		return 0, nil
	}
	for _, s := range servers {
		if s.role == ours {
			continue
		}
		got, err := s.run(ctx, s.config(sc, set))
		if err != nil {
			return 0, fmt.Errorf("%s: %w", s.name, err)
		}
		rate = max(rate, got.rate/2)
	}
	return rate, nil
}

// config returns the load of sc in a closed loop against s.
func (s *server) config(sc scenario, set settings) bench.Config {
	return bench.Config{
		URL: s.url, Raw: s.raw, Insecure: true, Sessions: sc.sessions, Streams: sc.streams, InFlight: sc.inFlight,
		Separate: sc.separate, Duration: set.duration, Warmup: set.warmup,
	}
}

// load makes one run against s, in an open loop if rate is not 0.
func (s *server) load(ctx context.Context, sc scenario, rate float64, set settings) (sample, error) {
	cfg := s.config(sc, set)
	if rate > 0 {
		cfg.Rate, cfg.Poisson, cfg.InFlight = rate, true, bench.DefaultInFlight
	}
	return s.run(ctx, cfg)
}

// run is a load, with the resources that the server used for it.
func (s *server) run(ctx context.Context, cfg bench.Config) (sample, error) {
	var before, after usage
	var usageErr error
	note := func(u *usage) func() {
		return func() {
			var err error
			*u, err = usageOf(s.cmd.Process.Pid)
			usageErr = errors.Join(usageErr, err)
		}
	}
	cfg.AtStart, cfg.AtEnd = note(&before), note(&after)
	got, err := bench.Run(ctx, cfg)
	switch {
	case ctx.Err() != nil:
		return sample{}, ctx.Err()
	case err == nil && got.Errors > 0:
		err = fmt.Errorf("%d sessions failed: %s", got.Errors, got.FirstError)
	case err == nil && got.Messages == 0:
		err = errNoMessage
	case err == nil:
		err = usageErr
	}
	if err != nil {
		return sample{}, errors.Join(err, s.died())
	}
	own := newSample(got.Rate, got.Messages, before, after)
	own.client = got.ClientCPUs
	own.mean, own.p50, own.p99 = got.LatencyMean, got.LatencyP50, got.LatencyP99
	return own, nil
}
