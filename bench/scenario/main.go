// Command scenario runs one scenario at a time against servers of its own, which
// it starts as child processes, and prints the figures as a table.
//
//	go run ./bench/scenario NAME [flags]
//
//	idle       memory of an idle session: tcp, ws, tls, quic
//	million    1,000,000 TCP sessions over as many processes as it takes
//	storm      connections opened, used and dropped a second, beside rivals
//	broadcast  one message to 10,000 sessions
//	large      echo of messages of 64 KiB and 1 MiB
//	slow       fast sessions with and without slow readers beside them
//	blocking   sessions with and without a handler that sleeps beside them
//
// Every scenario verifies each byte of the replies, has limits in count and time, and
// takes --json FILE, --write FILE and --timeout; NAME --help lists the other flags. Goals are marked
// as reached or missed; a missed goal is a result, not a failure. The exit code is 1
// after an error (a wrong reply, a process that died, too little memory, Ctrl-C), and 2
// if a flag is invalid. On other systems, scenarios that need Linux return an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/millrace/millrace/bench/internal/results"
	flagusage "github.com/millrace/millrace/bench/internal/usage"
)

// A body is a scenario whose flags were read. It reports its progress to log.
type body func(ctx context.Context, log *progress) (*report, error)

// A scenario registers its flags and returns two functions: its body, which may use
// the flags after parsing, and check, which returns an error for invalid flags.
type scenario struct {
	name    string
	about   string
	timeout time.Duration // default of --timeout
	setup   func(fs *flag.FlagSet) (check func() error, run body)
}

func scenarios() []scenario {
	return []scenario{
		{"idle", "memory of an idle session: tcp, ws, tls, quic", 10 * time.Minute, setupIdle},
		{"million", "1,000,000 TCP sessions over as many processes as it takes", 20 * time.Minute, setupMillion},
		{"storm", "connections opened, used and dropped a second, beside rivals", 10 * time.Minute, setupStorm},
		{"broadcast", "one message to 10,000 sessions", 10 * time.Minute, setupBroadcast},
		{"large", "echo of messages of 64 KiB and 1 MiB", 10 * time.Minute, setupLarge},
		{"slow", "fast sessions with and without slow readers beside them", 10 * time.Minute, setupSlow},
		{"blocking", "sessions with and without a handler that sleeps beside them", 10 * time.Minute, setupBlocking},
	}
}

func main() {
	if code, ok := runAsChild(os.Args[1:]); ok {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the program without its process. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	for _, s := range scenarios() {
		if s.name == args[0] {
			return s.run(ctx, args[1:], stdout, stderr)
		}
	}
	if args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		usage(stderr)
		return 0
	}
	fmt.Fprintf(stderr, "scenario: there is no scenario %q\n", args[0])
	usage(stderr)
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: scenario NAME [flags]; NAME is one of:")
	for _, s := range scenarios() {
		fmt.Fprintf(w, "  %-10s %s\n", s.name, s.about)
	}
	fmt.Fprintln(w, "scenario NAME --help lists the flags")
}

func (s scenario) run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("scenario "+s.name, flag.ContinueOnError)
	fs.SetOutput(stderr)
	flagusage.Set(fs, "scenario "+s.name+": "+s.about)
	var out outputs
	fs.StringVar(&out.json, "json", "", "`FILE` to write the figures to, as JSON")
	fs.StringVar(&out.results, "write", "", "`FILE` whose part for this scenario is replaced, such as bench/RESULTS.md")
	timeout := fs.Duration("timeout", s.timeout, "maximum time of the run")
	check, body := s.setup(fs)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case fs.NArg() > 0:
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	case *timeout <= 0:
		err = errors.New("--timeout must be above 0")
	default:
		if err = check(); err == nil && out.results != "" {
			err = s.part().Check(out.results)
		}
	}
	if err != nil {
		fmt.Fprintf(stderr, "scenario %s: %v\n", s.name, err)
		return 2
	}
	ctx, cancel := context.WithTimeoutCause(ctx, *timeout, fmt.Errorf("not finished within --timeout %v", *timeout))
	defer cancel()
	if err := s.measure(ctx, fs, body, out, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "scenario %s: %v\n", s.name, err)
		return 1
	}
	return 0
}

// outputs are the files that a report goes to, empty for none.
type outputs struct{ json, results string }

// part is the scenario's part of the results.
func (s scenario) part() results.Part { return results.Part{Name: s.name, By: "bench/scenario"} }

// measure runs the scenario and writes its report, also if it failed after it had
// measured something.
func (s scenario) measure(ctx context.Context, fs *flag.FlagSet, body body, out outputs, stdout, stderr io.Writer) error {
	r, err := body(ctx, newProgress(stderr))
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w (%w)", context.Cause(ctx), err)
	}
	if r == nil {
		return err
	}
	r.Scenario = s.name
	r.describe(fs)
	if err != nil {
		r.Failure = err.Error()
	}
	if printErr := r.print(stdout); printErr != nil {
		return errors.Join(err, printErr)
	}
	if out.json != "" {
		err = errors.Join(err, r.writeJSON(out.json))
	}
	if out.results != "" && err == nil { // otherwise an incomplete part would replace a complete one
		err = s.part().Write(out.results, r.markdown(fs))
	}
	return err
}

// between reports a flag's value that is out of its bounds.
func between[T int | time.Duration](name string, value, low, high T) error {
	if value < low || value > high {
		return fmt.Errorf("--%s %v is outside %v to %v", name, value, low, high)
	}
	return nil
}
