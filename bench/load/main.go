// Command load loads one echo server and verifies every reply.
//
//	load --url tcp://127.0.0.1:8001 [--sessions 8] [--streams 1] [--inflight 1000]
//	     [--size 4 | --size 4,4,1024] [--rate N [--poisson]] [--oneway] [--raw]
//	     [--separate]
//	     [--ramp-up 0s] [--warmup 1s] [--duration 5s] [--loops N]
//	     [--ca FILE | --insecure] [--json FILE] [--report FILE.html]
//
// URLs begin with tcp, tls, ws, wss, quic or unix. It prints its progress on
// stderr each second, and a summary on stdout. Ctrl-C ends the load and prints the
// summary so far. The exit code is 1 if a session failed, the load couldn't start or a
// file couldn't be written, and 2 if a flag is invalid.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

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
	cfg, out, err := parseFlags(args, stderr)
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
	cfg.Progress = func(p bench.Progress) {
		fmt.Fprintf(stderr, "%5.0fs %-9s %8s messages/s, %d verified, %d sessions failed\n",
			p.Elapsed.Seconds(), p.Phase, bench.Count(p.Rate), p.Verified, p.Errors)
	}
	result, err := bench.Run(ctx, cfg)
	if result == nil {
		fmt.Fprintln(stderr, "load:", err)
		return 1
	}
	if err := out.write(stdout, result); err != nil {
		fmt.Fprintln(stderr, "load:", err)
		return 1
	}
	if result.Errors > 0 {
		return 1
	}
	return 0
}
