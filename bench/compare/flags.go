package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

type settings struct {
	groups           []group // chosen, with the chosen contestants
	rounds           int
	duration, warmup time.Duration
	write            string // file; empty for none
}

// parseFlags reads args, and writes what is wrong with them to stderr.
func parseFlags(args []string, stderr io.Writer) (settings, error) {
	var set settings
	var names, only string
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.StringVar(&names, "group", groupNames(), "`LIST` of groups, with commas")
	fs.StringVar(&only, "only", "", "`NAME`: only contestants whose name holds this; nothing is written then")
	fs.IntVar(&set.rounds, "rounds", 5, "rounds, 1 to 50")
	fs.DurationVar(&set.duration, "duration", 1500*time.Millisecond, "measured time a run, up to 1m")
	fs.DurationVar(&set.warmup, "warmup", 300*time.Millisecond, "load before that, up to 1m")
	fs.StringVar(&set.write, "write", "bench/RESULTS.md", "`FILE` whose tables are replaced, from the repository's root; empty for none")
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
	default:
		set.groups, err = choose(names, only)
	}
	if err != nil {
		fmt.Fprintln(stderr, "compare:", err)
	}
	if only != "" {
		set.write = "" // a part would replace the whole
	}
	return set, err
}

func groupNames() string {
	names := make([]string, len(groups))
	for i, g := range groups {
		names[i] = g.name
	}
	return strings.Join(names, ",")
}

// choose returns the groups named in list, with those of their contestants
// whose name holds only.
func choose(list, only string) ([]group, error) {
	var chosen []group
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(groups, func(g group) bool { return g.name == name })
		if i < 0 {
			return nil, fmt.Errorf("--group: there is no %q; there are %s", name, groupNames())
		}
		g := groups[i]
		g.contestants = slices.DeleteFunc(slices.Clone(g.contestants), func(c contestant) bool {
			return !strings.Contains(strings.ToLower(c.name), strings.ToLower(only))
		})
		if len(g.contestants) > 0 {
			chosen = append(chosen, g)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("--only: no contestant of %s is called %q", list, only)
	}
	return chosen, nil
}
