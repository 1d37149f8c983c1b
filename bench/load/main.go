// Command load loads one echo server and verifies every reply.
//
//	load --url tcp://127.0.0.1:8001 [--sessions 8] [--inflight 1000] [--size 4]
//	     [--duration 5s] [--warmup 1s] [--raw] [--json]
//
// It exits with 1 when a session failed or the load couldn't start, and with 2
// when a flag makes no sense.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/millrace/millrace/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without its process. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cfg, asJSON, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	if err := cfg.Validate(); err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 2
	}
	result, err := bench.Run(ctx, cfg)
	if err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 1
	}
	if asJSON {
		err = json.NewEncoder(stdout).Encode(result)
	} else {
		err = report(stdout, result)
	}
	if err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 1
	}
	if result.Errors > 0 {
		return 1
	}
	return 0
}

func parseFlags(args []string, stderr io.Writer) (cfg bench.Config, asJSON bool, err error) {
	fs := flag.NewFlagSet("load", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&cfg.URL, "url", "tcp://127.0.0.1:8001", "`URL` of the server: tcp://host:port or ws://host:port/path")
	fs.BoolVar(&cfg.Raw, "raw", false, "the server returns the bytes as they are, as bench/floor does")
	fs.IntVar(&cfg.Sessions, "sessions", bench.DefaultSessions, "connections")
	fs.IntVar(&cfg.InFlight, "inflight", bench.DefaultInFlight, "requests in flight a session")
	fs.IntVar(&cfg.Size, "size", bench.DefaultSize, "payload bytes")
	fs.DurationVar(&cfg.Duration, "duration", bench.DefaultDuration, "time to measure")
	fs.DurationVar(&cfg.Warmup, "warmup", bench.DefaultWarmup, "time to load before that")
	fs.IntVar(&cfg.Loops, "loops", 0, "client threads (default GOMAXPROCS)")
	fs.BoolVar(&asJSON, "json", false, "print one JSON object")
	if err := fs.Parse(args); err != nil {
		return cfg, asJSON, err
	}
	if fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
		fmt.Fprintln(stderr, "load:", err)
		return cfg, asJSON, err
	}
	cfg.Empty = cfg.Size == 0
	if cfg.Warmup == 0 {
		cfg.Warmup = -1 // none, where the Config's zero means the default
	}
	return cfg, asJSON, nil
}

func report(w io.Writer, r *bench.Result) error {
	_, err := fmt.Fprintf(w, "%s: %d sessions x %d in flight, %d-byte payload, %v\n"+
		"  %.0f messages/s, %d verified in all, %d sessions failed\n"+
		"  latency of %d samples: mean %v, p50 %v, p99 %v\n",
		r.URL, r.Sessions, r.InFlight, r.Size, r.Duration.Round(time.Millisecond),
		r.Rate, r.Verified, r.Errors,
		r.Samples, r.LatencyMean, r.LatencyP50, r.LatencyP99)
	if err == nil && r.FirstError != "" {
		_, err = fmt.Fprintln(w, "  first failure:", r.FirstError)
	}
	return err
}
