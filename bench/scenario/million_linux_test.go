package main

import (
	"bytes"
	"context"
	"math"
	"strings"
	"testing"
	"time"
)

// TestMillion runs the crowd small, over several pairs of processes.
func TestMillion(t *testing.T) {
	for _, inline := range []string{"--inline=true", "--inline=false"} {
		r := runSmall(t, "million", "--sessions", "50", "--per-process", "20", inline)
		r.wantAll(t, 1, "processes", "RSS", "heap", "took")
		for row, want := range map[string]float64{
			"no sessions": 0, "all opened, each verified": 50, "all asked once more, each verified": 50,
			"all closed, after forced collections": 0,
		} {
			if got := r.cell(t, row, "sessions")[0]; got != want {
				t.Errorf("%s: %v sessions, want %v", row, got, want)
			}
		}
		if got := r.cell(t, "no sessions", "processes")[0]; got != 3 {
			t.Errorf("%v processes", got)
		}
	}
}

func TestMillionMisuse(t *testing.T) {
	for _, c := range []struct{ args, names string }{
		{"--sessions 0", "--sessions"},
		{"--per-process -1", "--per-process"},
		{"--parallel 0", "--parallel"},
	} {
		var stdout, stderr bytes.Buffer
		args := append([]string{"million"}, strings.Fields(c.args)...)
		if code := run(context.Background(), args, &stdout, &stderr); code != 2 || !strings.Contains(stderr.String(), c.names) {
			t.Errorf("%s: exit code %d, stderr %q", c.args, code, stderr.String())
		}
	}
}

// TestFeasible checks that each thing that a machine may lack is named.
func TestFeasible(t *testing.T) {
	plenty := kernelLimits{descriptors: 20_000, filesFree: 1 << 30, ports: 28_000, processRoom: 1 << 20, listenLength: 4096}
	for _, c := range []struct {
		names    string // empty for nothing
		sessions int
		lack     func(*kernelLimits)
	}{
		{"", 100, func(*kernelLimits) {}},
		{"memory", math.MaxInt32, func(*kernelLimits) {}},
		{"descriptors", 100, func(l *kernelLimits) { l.descriptors = 1000 }},
		{"fs.file-max", 100, func(l *kernelLimits) { l.filesFree = 199 }},
		{"ip_local_port_range", 100, func(l *kernelLimits) { l.ports = 100 }},
		{"threads-max", 100, func(l *kernelLimits) { l.processRoom = 10 }},
		{"somaxconn", 100, func(l *kernelLimits) { l.listenLength = 16 }},
	} {
		limits := plenty
		c.lack(&limits)
		crowd := &crowd{set: millionSettings{sessions: c.sessions, perProcess: 10_000}, log: newProgress(&bytes.Buffer{})}
		err := crowd.feasible(limits)
		if (err == nil) != (c.names == "") || err != nil && !strings.Contains(err.Error(), c.names) {
			t.Errorf("%q: %v", c.names, err)
		}
	}
}

// TestMillionInterrupted stops a run that would take minutes.
func TestMillionInterrupted(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"million", "--sessions", "200000", "--per-process", "5000"}, &stdout, &stderr)
	if code != 1 || !strings.Contains(stderr.String(), "context deadline exceeded") {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
}
