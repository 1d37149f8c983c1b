package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// report is a group's part of the results: the description, the machine, the date,
// the command and the tables.
func report(g *group, results []result, set settings) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s\n\n", g.title)
	fmt.Fprintf(&b, "%s Client and server on the same machine; every reply verified (ID, order, bytes).\n", g.about)
	fmt.Fprintf(&b, "Each run measures %v after %v of warm-up, %d rounds, servers in turn. Ratios are taken within\n"+
		"a round; all figures are medians of the rounds. Unless stated otherwise, latency is closed-loop, of one request in each window.\n"+
		"Calls are the server's reads and writes as the kernel counts them. They include wake-ups of its own threads,\n"+
		"but not waits for events or sendmsg (a dash if the server uses sendmsg). Waits are voluntary context\n"+
		"switches of its threads. Client CPUs is the CPU time of the load generator by the measured time. If it\n"+
		"and the server's take all CPUs, the cost of the client limits the rate; then compare server CPU a message.\n\n", set.duration, set.warmup, set.rounds)
	fmt.Fprintf(&b, "- Machine: %s, %d CPUs, %s\n", cpuModel(), runtime.NumCPU(), kernel())
	fmt.Fprintf(&b, "- Date: %s, %s\n", time.Now().UTC().Format("2006-01-02 15:04 MST"), runtime.Version())
	fmt.Fprintf(&b, "- Command: `go run ./bench/compare --group %s --rounds %d --duration %v --warmup %v%s`\n",
		g.name, set.rounds, set.duration, set.warmup, set.optionalFlags(g))
	for _, s := range g.skipped {
		first, _, _ := strings.Cut(s.reason, "\n") // a compiler writes many lines
		fmt.Fprintf(&b, "- **Skipped**: %s: %s\n", s.name, first)
	}
	for i := range results {
		fmt.Fprintf(&b, "\n%s", results[i].table())
	}
	return b.String()
}

// optionalFlags are the flags of rivals that were given for g, without the paths of this
// machine.
func (set *settings) optionalFlags(g *group) string {
	switch {
	case g.name == msgtransGroup.name && set.msgtrans != "":
		return " --msgtrans PATH"
	case g.name == wsGroup.name && set.uwebsockets != "":
		return " --uwebsockets DIR"
	}
	return ""
}

// cpuModel returns the name of the processor, or "unknown processor".
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

// kernel returns the name and the release of the operating system.
func kernel() string {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return runtime.GOOS
	}
	return runtime.GOOS + " " + strings.TrimSpace(string(release))
}
