package main

import (
	"bytes"
	"context"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []int
		want   int
	}{
		{[]int{7}, 7},
		{[]int{9, 1}, 1},
		{[]int{5, 1, 9}, 5},
		{[]int{4, 3, 2, 1}, 2},
	} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v is %d, want %d", c.values, got, c.want)
		}
	}
}

// TestTable checks that ratios are taken within a round: the machine of this
// test is ten times slower in its last one.
func TestTable(t *testing.T) {
	rounds := func(factor float64) []sample {
		return []sample{
			{rate: 10e6 * factor, cpu: 20, p50: time.Millisecond, p99: 2 * time.Millisecond},
			{rate: 10e6 * factor, cpu: 30, p50: time.Millisecond, p99: 2 * time.Millisecond},
			{rate: 1e6 * factor, cpu: 90, p50: time.Millisecond, p99: 2 * time.Millisecond},
		}
	}
	got := table(scenario{8, 1000}, [][]sample{rounds(1), rounds(0.25), rounds(0.9), rounds(0.5)})
	for _, want := range []string{
		"### 8 x 1000 in flight",
		"| floor: raw epoll, no framing | 10 M (1 M..10 M) | 30 | 100 % | 4.00x | 1ms | 2ms |",
		"| Go net + bufio | 2.5 M (250 k..2.5 M) | 30 | 25 % | 1.00x | 1ms | 2ms |",
		"| Millrace, inline | 9 M (900 k..9 M) | 30 | 90 % | 3.60x | 1ms | 2ms |",
		"| Millrace, workers | 5 M (500 k..5 M) | 30 | 50 % | 2.00x | 1ms | 2ms |",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, got)
		}
	}
}

func TestReadyURL(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"ready tcp://127.0.0.1:5 ws://127.0.0.1:5/ws\n", "tcp://127.0.0.1:5"},
		{"ready tcp://127.0.0.1:5\n", "tcp://127.0.0.1:5"},
		{"ready\n", ""},
		{"ready ws://127.0.0.1:5/ws\n", ""},
		{"panic: tcp://\n", ""},
		{"", ""},
	} {
		got, err := readyURL(strings.NewReader(c.line))
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

// TestCPUTime burns some time and sees it on the process's own clock.
func TestCPUTime(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no such clock here")
	}
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
	}
	after, err := cpuTime(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("%v, then %v, %v", before, after, err)
	}
	if _, err := cpuTime(1 << 28); err == nil {
		t.Error("no error for a process that doesn't exist")
	}
}

func TestMisuse(t *testing.T) {
	for _, c := range []struct{ args, names string }{
		{"--rounds 0", "--rounds"},
		{"--rounds 51", "--rounds"},
		{"--duration 0", "--duration"},
		{"--duration 2m", "--duration"},
		{"--warmup 0", "--warmup"},
		{"--speed 11", "speed"},
		{"now", "now"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), strings.Fields(c.args), &stdout, &stderr); code != 2 {
			t.Errorf("%s: exit code %d", c.args, code)
		}
		if !strings.Contains(stderr.String(), c.names) {
			t.Errorf("%s: stderr %q", c.args, stderr.String())
		}
	}
}
