package main

import (
	"cmp"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A sample is one server's figures in one round.
type sample struct {
	rate     float64 // messages a second
	cpu      float64 // nanoseconds of the server's CPU a message
	p50, p99 time.Duration
}

// table is the Markdown table of one scenario. runs holds the samples of each
// contestant by round; ratios are taken within a round, and then their median.
func table(sc scenario, runs [][]sample) string {
	floor, rival := runs[0], runs[1]
	var b strings.Builder
	fmt.Fprintf(&b, "### %s in flight\n\n", sc)
	b.WriteString("| echo | messages/s, median (min..max) | server CPU ns a message | of the floor | to Go net | p50 | p99 |\n")
	b.WriteString("|---|---|---|---|---|---|---|\n")
	for i, c := range contestants {
		own := runs[i]
		rates := collect(own, func(s sample) float64 { return s.rate })
		fmt.Fprintf(&b, "| %s | %s (%s..%s) | %.3g | %.0f %% | %.2fx | %v | %v |\n", c.name,
			human(median(rates)), human(slices.Min(rates)), human(slices.Max(rates)),
			median(collect(own, func(s sample) float64 { return s.cpu })),
			100*median(ratios(own, floor)), median(ratios(own, rival)),
			median(collect(own, func(s sample) time.Duration { return s.p50 })).Round(time.Microsecond),
			median(collect(own, func(s sample) time.Duration { return s.p99 })).Round(time.Microsecond))
	}
	return b.String()
}

// ratios are the rates of own by those of base, round by round.
func ratios(own, base []sample) []float64 {
	r := make([]float64, len(own))
	for i := range own {
		r[i] = own[i].rate / base[i].rate
	}
	return r
}

func collect[T any](samples []sample, field func(sample) T) []T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = field(s)
	}
	return values
}

// median is the middle value, the lower of two.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// human writes a rate with three digits.
func human(rate float64) string {
	switch {
	case rate >= 1e6:
		return fmt.Sprintf("%.3g M", rate/1e6)
	case rate >= 1e3:
		return fmt.Sprintf("%.3g k", rate/1e3)
	default:
		return fmt.Sprintf("%.3g", rate)
	}
}

// heading says where, when and how the tables came to be.
func heading(set settings) string {
	return fmt.Sprintf(`# Results

Echo over loopback, 4-byte payload, client and server on the same machine; every
reply verified (ID, order, bytes). Each run measures %v after %v of warm-up, %d
rounds, servers in turn. Ratios are taken within a round; the table holds their
medians. Latency is closed-loop, of one request in each window.

- Machine: %s, %d CPUs, %s
- Date: %s, %s
- Command: `+"`go run ./bench/compare --rounds %d --duration %v --warmup %v --write %s`"+`

`, set.duration, set.warmup, set.rounds,
		cpuModel(), runtime.NumCPU(), kernel(),
		time.Now().UTC().Format(time.DateOnly), runtime.Version(),
		set.rounds, set.duration, set.warmup, set.write)
}

// cpuModel names the processor, or says that it can't be told.
func cpuModel() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				return strings.TrimSpace(value)
			}
		}
	}
	return "unknown processor, " + runtime.GOARCH
}

// kernel names the operating system and its release.
func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return runtime.GOOS + " " + strings.TrimSpace(string(release))
}
