// Command compare loads Millrace's echo server, the floor and the rivals on this
// machine, prints a comparison, and writes it to bench/RESULTS.md.
//
//	go run ./bench/compare [--group LIST] [--rounds 5] [--duration 1.5s]
//	    [--warmup 300ms] [--only NAME] [--write FILE] [--msgtrans PATH] [--uwebsockets DIR]
//	go run ./bench/compare --revisions OLD,NEW | --binaries OLD,NEW
//	    [--group LIST] [--rounds 5] [--duration 1.5s] [--warmup 300ms] [--only NAME]
//
// The second form compares two builds of the echo server with each other, and
// prints which loads got slower.
//
// The servers take turns within each round, and each round has its own ratios. If
// other programs use the machine, only figures of the same time can be compared. Run
// the command anywhere in the repository. It exits with 1 if a server dies or answers
// wrongly, and if it is interrupted. It then prints the results so far, and writes no
// incomplete part. Linux only.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/millrace/millrace/bench/internal/results"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
	if set.pairs() {
		err = comparePairs(ctx, set, stdout, stderr)
	} else {
		err = compare(ctx, set, stdout, stderr)
	}
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(stderr, "compare: interrupted")
	case err != nil:
		fmt.Fprintln(stderr, "compare:", err)
	default:
		return 0
	}
	return 1
}

// compare measures the chosen groups one after the other, and writes each when
// it is complete.
func compare(ctx context.Context, set settings, stdout, progress io.Writer) error {
	root, err := findRoot(ctx)
	if err != nil {
		return err
	}
	if set.write != "" {
		if !filepath.IsAbs(set.write) {
			set.write = filepath.Join(root, set.write)
		}
		for i := range set.groups {
			if err := set.groups[i].part().Check(set.write); err != nil {
				return err
			}
		}
	}
	dir, err := os.MkdirTemp("", "millrace-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	set.buildOptional(ctx, root, dir, progress)
	if err := build(ctx, root, dir, set.groups); err != nil {
		return err
	}
	for i := range set.groups {
		g := &set.groups[i]
		measured, err := measure(ctx, g, dir, set, progress)
		text := report(g, measured, set)
		if len(measured) > 0 {
			fmt.Fprintln(stdout, text)
		}
		if err != nil {
			return err
		}
		if set.write == "" {
			continue
		}
		if err := g.part().Write(set.write, text); err != nil {
			return err
		}
	}
	return nil
}

// part is g's part of the results.
func (g *group) part() results.Part { return results.Part{Name: g.name, By: "bench/compare"} }

// comparePairs measures two builds of our server.
func comparePairs(ctx context.Context, set settings, stdout, progress io.Writer) error {
	root, err := findRoot(ctx)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "millrace-compare-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	sides, err := makeSides(ctx, root, dir, set)
	if err != nil {
		return err
	}
	all := regimes(set.groups)
	err = measurePairs(ctx, all, sides, set, progress)
	if len(all[0].old) > 0 {
		fmt.Fprint(stdout, pairsReport(all, sides, set))
	}
	return err
}
