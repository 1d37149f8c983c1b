// Command compare loads Millrace's echo server, the floor and the rivals on this
// machine and prints how they relate.
//
//	go run ./bench/compare [--rounds 5] [--duration 2s] [--warmup 500ms] [--write FILE]
//
// The servers take turns within each round, and each round gives its own ratios:
// on a machine that others use too, a figure means something only beside one
// that was measured at the same time. Run it anywhere in the repository. Linux only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/millrace/millrace/bench"
)

// A scenario is a shape of load.
type scenario struct{ sessions, inFlight int }

func (s scenario) String() string { return fmt.Sprintf("%d x %d", s.sessions, s.inFlight) }

var scenarios = []scenario{{8, 1000}, {100, 16}, {100, 1}, {1000, 1}}

// A contestant is a server to compare. The first one is what the others are
// given as a part of; the second is the rival.
var contestants = []contestant{
	{name: "floor: raw epoll, no framing", program: "floor", raw: true},
	{name: "Go net + bufio", program: "gonet"},
	{name: "Millrace, inline", program: "echo", args: []string{"--dispatch", "inline"}},
	{name: "Millrace, workers", program: "echo", args: []string{"--dispatch", "workers"}},
}

type settings struct {
	rounds           int
	duration, warmup time.Duration
	write            string // file, or empty
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without its process. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	set, err := parseFlags(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	tables, err := measure(ctx, set, stderr)
	if err != nil {
		fmt.Fprintln(stderr, "compare:", err)
		return 1
	}
	report := strings.Join(tables, "\n")
	fmt.Fprint(stdout, report)
	if set.write == "" {
		return 0
	}
	if err := os.WriteFile(set.write, []byte(heading(set)+report), 0o644); err != nil {
		fmt.Fprintln(stderr, "compare:", err)
		return 1
	}
	return 0
}

func parseFlags(args []string, stderr io.Writer) (settings, error) {
	var set settings
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&set.rounds, "rounds", 5, "rounds, 1 to 50")
	fs.DurationVar(&set.duration, "duration", 2*time.Second, "measured time a run, up to 1m")
	fs.DurationVar(&set.warmup, "warmup", 500*time.Millisecond, "load before that, up to 1m")
	fs.StringVar(&set.write, "write", "", "`FILE` to write the tables to")
	if err := fs.Parse(args); err != nil {
		return set, err
	}
	var err error
	switch {
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case set.rounds < 1 || set.rounds > 50:
		err = errors.New("--rounds must be 1 to 50")
	case set.duration <= 0 || set.duration > time.Minute:
		err = errors.New("--duration must be above 0 and up to 1m")
	case set.warmup <= 0 || set.warmup > time.Minute:
		err = errors.New("--warmup must be above 0 and up to 1m")
	}
	if err != nil {
		fmt.Fprintln(stderr, "compare:", err)
	}
	return set, err
}

// measure builds and starts the contestants, and returns one table for each
// scenario.
func measure(ctx context.Context, set settings, progress io.Writer) ([]string, error) {
	dir, err := os.MkdirTemp("", "millrace-compare-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := build(ctx, dir); err != nil {
		return nil, err
	}
	var servers []*server
	defer func() {
		for _, s := range servers {
			s.stop()
		}
	}()
	for _, c := range contestants {
		s, err := start(dir, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
		servers = append(servers, s)
	}
	var tables []string
	for _, sc := range scenarios {
		runs := make([][]sample, len(servers))
		for round := range set.rounds {
			fmt.Fprintf(progress, "%s: round %d of %d\n", sc, round+1, set.rounds)
			for i, s := range servers {
				got, err := s.load(ctx, sc, set)
				if err != nil {
					return nil, fmt.Errorf("%s, %s: %w", s.name, sc, err)
				}
				runs[i] = append(runs[i], got)
			}
		}
		tables = append(tables, table(sc, runs))
	}
	return tables, nil
}

// build compiles the contestants into dir.
func build(ctx context.Context, dir string) error {
	gomod, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/millrace/millrace").Output()
	if err != nil {
		return fmt.Errorf("run this inside the repository: %w", err)
	}
	root := strings.TrimSpace(string(gomod))
	for _, b := range []struct{ module, pkg string }{
		{".", "./bench/floor"}, {".", "./cmd/echo"}, {"bench/peers", "./gonet"},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+"/", b.pkg)
		cmd.Dir = filepath.Join(root, b.module)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s: %w\n%s", b.pkg, err, out)
		}
	}
	return nil
}

// load makes one run against s.
func (s *server) load(ctx context.Context, sc scenario, set settings) (sample, error) {
	var before, after time.Duration
	var clockErr error
	clock := func(t *time.Duration) func() {
		return func() {
			var err error
			*t, err = cpuTime(s.cmd.Process.Pid)
			clockErr = errors.Join(clockErr, err)
		}
	}
	result, err := bench.Run(ctx, bench.Config{
		URL: s.url, Raw: s.raw, Sessions: sc.sessions, InFlight: sc.inFlight,
		Duration: set.duration, Warmup: set.warmup,
		AtStart: clock(&before), AtEnd: clock(&after),
	})
	switch {
	case err != nil:
		return sample{}, err
	case clockErr != nil:
		return sample{}, clockErr
	case result.Errors > 0:
		return sample{}, fmt.Errorf("%d sessions failed: %s", result.Errors, result.FirstError)
	case result.Messages == 0:
		return sample{}, errors.New("no message came back in time")
	}
	return sample{
		rate: result.Rate,
		cpu:  float64((after - before).Nanoseconds()) / float64(result.Messages),
		p50:  result.LatencyP50,
		p99:  result.LatencyP99,
	}, nil
}
