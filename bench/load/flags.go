package main

import (
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/millrace/millrace/bench"
	flagusage "github.com/millrace/millrace/bench/internal/usage"
)

// parseFlags reads args, and writes errors to stderr.
func parseFlags(args []string, stderr io.Writer) (cfg bench.Config, out outputs, err error) {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	fs.SetOutput(stderr)
	flagusage.Set(fs, "load: make load for one server, verify every reply, and print the figures")
	cfg.Size = bench.DefaultSize
	fs.StringVar(&cfg.URL, "url", "tcp://127.0.0.1:8001",
		"`URL` of the server: tcp, tls or quic://host:port, ws or wss://host:port/path, unix:///path")
	fs.BoolVar(&cfg.Raw, "raw", false, "the server returns all bytes unchanged, as bench/floor does")
	fs.BoolVar(&cfg.OneWay, "oneway", false, "send one-way messages, which come back as such")
	fs.IntVar(&cfg.Sessions, "sessions", bench.DefaultSessions, "connections")
	fs.IntVar(&cfg.Streams, "streams", 1, "streams a QUIC connection")
	fs.IntVar(&cfg.InFlight, "inflight", bench.DefaultInFlight, "requests in flight a session; the maximum in an open loop")
	fs.BoolVar(&cfg.Separate, "separate", false,
		"each session is a client of its own and writes each request with a call of its own; on QUIC with a stream of its own")
	fs.Func("size", "payload `BYTES`; or several, as in 4,4,1024, to choose from randomly (default 4)", func(v string) error {
		return parseSizes(v, &cfg)
	})
	fs.Float64Var(&cfg.Rate, "rate", 0,
		"open loop: messages a second over all sessions, latency from the intended time (default: closed loop)")
	fs.BoolVar(&cfg.Poisson, "poisson", false, "space an open loop's messages randomly")
	fs.DurationVar(&cfg.RampUp, "ramp-up", 0, "time over which the sessions begin")
	fs.DurationVar(&cfg.Duration, "duration", bench.DefaultDuration, "time to measure")
	fs.DurationVar(&cfg.Warmup, "warmup", bench.DefaultWarmup, "time to load before that")
	fs.IntVar(&cfg.Loops, "loops", 0, "client threads (default GOMAXPROCS)")
	fs.StringVar(&cfg.CAFile, "ca", "", "PEM `FILE` of the authority that verifies the server's certificate (default: the system's)")
	fs.BoolVar(&cfg.Insecure, "insecure", false, "don't verify the server's certificate")
	fs.StringVar(&out.json, "json", "", "write the result to `FILE` as JSON; - for stdout instead of the summary")
	fs.StringVar(&out.html, "report", "", "write a page with charts to `FILE.html`")
	if err := fs.Parse(args); err != nil {
		return cfg, out, err
	}
	if fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
		fmt.Fprintln(stderr, "load:", err)
		return cfg, out, err
	}
	cfg.Empty = cfg.Size == 0
	if cfg.Warmup == 0 {
		cfg.Warmup = -1 // none; zero would mean the default
	}
	return cfg, out, nil
}

func parseSizes(list string, cfg *bench.Config) error {
	cfg.Sizes = nil
	for text := range strings.SplitSeq(list, ",") {
		size, err := strconv.Atoi(text)
		if err != nil {
			return fmt.Errorf("%q is no number of bytes", text)
		}
		cfg.Sizes = append(cfg.Sizes, size)
	}
	if len(cfg.Sizes) == 1 {
		cfg.Size, cfg.Sizes = cfg.Sizes[0], nil
	}
	return nil
}
