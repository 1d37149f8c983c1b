package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	flagusage "github.com/millrace/millrace/bench/internal/usage"
)

type settings struct {
	groups           []group // chosen, with the chosen contestants
	rounds           int
	duration, warmup time.Duration
	write            string // file; empty for none

	// Two builds of our own server to compare with each other: revisions or
	// paths of executables. Empty if Millrace is compared with rivals.
	revisions, binaries [2]string

	// Rivals that aren't built from Go; empty if they are skipped.
	msgtrans    string // absolute path of a program
	uwebsockets string // folder of a checkout
}

// pairs reports whether two builds of our own server are compared.
func (s *settings) pairs() bool { return s.revisions[0] != "" || s.binaries[0] != "" }

// parseFlags reads args, and writes errors to stderr.
func parseFlags(args []string, stderr io.Writer) (settings, error) {
	var set settings
	var names, only string
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.SetOutput(stderr)
	flagusage.Set(fs, "compare: measure Millrace and its rivals in turn, in the same regimes")
	fs.StringVar(&names, "group", "", "`LIST` of groups, with commas, of "+groupNames(groups)+
		" (default all; all but open with --revisions and --binaries)")
	fs.StringVar(&only, "only", "", "`NAME`: only contestants whose name holds this; nothing is written then")
	fs.IntVar(&set.rounds, "rounds", 5, "rounds, 1 to 50")
	fs.DurationVar(&set.duration, "duration", 1500*time.Millisecond, "measured time a run, up to 1m")
	fs.DurationVar(&set.warmup, "warmup", 300*time.Millisecond, "load before that, up to 1m")
	fs.StringVar(&set.write, "write", "bench/RESULTS.md", "`FILE` whose tables are replaced, from the repository's root; empty for none")
	const revisions = "`OLD,NEW`: compare the echo server of two revisions, with nothing else, and write nothing; " +
		"worktree stands for the files as they are"
	fs.Func("revisions", revisions, func(v string) error {
		return parsePair(v, &set.revisions)
	})
	fs.Func("binaries", "`OLD,NEW`: the same with two builds of cmd/echo", func(v string) error {
		return parsePair(v, &set.binaries)
	})
	fs.Func("msgtrans", "`PATH` of an echo server on msgtrans, a rival of the msgtrans group; bench/README.md says how it is called", func(v string) error {
		return parseProgram(v, &set.msgtrans)
	})
	fs.StringVar(&set.uwebsockets, "uwebsockets", "", "`DIR` of a checkout of uWebSockets with uSockets, a rival of the ws group; needs a C++ compiler")
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
	case set.revisions[0] != "" && set.binaries[0] != "":
		err = errors.New("--revisions and --binaries exclude each other")
	case set.pairs() && (set.msgtrans != "" || set.uwebsockets != ""):
		err = errors.New("--msgtrans and --uwebsockets are rivals, and --revisions and --binaries have none")
	case set.pairs():
		set.groups, err = chooseOurs(names, only)
	default:
		set.groups, err = choose(set.withOptional(groups), names, only)
	}
	if err != nil {
		fmt.Fprintln(stderr, "compare:", err)
	}
	if only != "" || set.pairs() {
		set.write = "" // otherwise a part would replace the complete table
	}
	return set, err
}

func parsePair(v string, pair *[2]string) error {
	before, after, _ := strings.Cut(v, ",")
	if before == "" || after == "" || strings.Contains(after, ",") {
		return errors.New("must be OLD,NEW")
	}
	*pair = [2]string{before, after}
	return nil
}

// parseProgram checks that v is an executable file.
func parseProgram(v string, program *string) error {
	path, err := filepath.Abs(v)
	if err == nil {
		path, err = exec.LookPath(path)
	}
	*program = path
	return err
}

func groupNames(of []group) string {
	names := make([]string, len(of))
	for i, g := range of {
		names[i] = g.name
	}
	return strings.Join(names, ",")
}

// choose returns those groups of all that list names, with the contestants whose
// name contains only. An empty list selects all groups.
func choose(all []group, list, only string) ([]group, error) {
	if list == "" {
		list = groupNames(all)
	}
	var chosen []group
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(all, func(g group) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--group: there is no %q; there are %s", name, groupNames(all))
		}
		g := all[i]
		unwanted := func(name string) bool { return !strings.Contains(strings.ToLower(name), strings.ToLower(only)) }
		g.contestants = slices.DeleteFunc(slices.Clone(g.contestants), func(c contestant) bool { return unwanted(c.name) })
		g.skipped = slices.DeleteFunc(slices.Clone(g.skipped), func(s skip) bool { return unwanted(s.name) })
		// A scenario of one scheme may have lost all its contestants.
		g.scenarios = slices.DeleteFunc(slices.Clone(g.scenarios), func(sc scenario) bool { return len(g.in(sc)) == 0 })
		if len(g.contestants) > 0 {
			chosen = append(chosen, g)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("--only: no contestant of %s is called %q", list, only)
	}
	return chosen, nil
}

// chooseOurs is choose among our own servers in a closed loop: an open loop
// has a fixed rate, so its rates can't be compared.
func chooseOurs(list, only string) ([]group, error) {
	var all []group
	for _, g := range groups {
		if g.name == openGroup.name {
			continue
		}
		g.contestants = slices.DeleteFunc(slices.Clone(g.contestants), func(c contestant) bool { return c.role != ours })
		all = append(all, g)
	}
	return choose(all, list, only)
}
