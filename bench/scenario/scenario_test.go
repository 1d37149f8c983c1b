package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/bench"
	"github.com/millrace/millrace/internal/testkit"
)

// TestMain makes the test's own binary usable as the child of a scenario.
func TestMain(m *testing.M) {
	if code, ok := runAsChild(os.Args[1:]); ok {
		os.Exit(code)
	}
	goleak.VerifyTestMain(m)
}

// runSmall runs a scenario as its command does, and returns its report.
func runSmall(t *testing.T, args ...string) *report {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip(bench.ErrUnsupported)
	}
	file := filepath.Join(t.TempDir(), "report.json")
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), append(args, "--json", file, "--timeout", "90s"), &stdout, &stderr)
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, stdout.String(), stderr.String())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal(b, &r); err != nil {
		t.Fatal(err)
	}
	if r.Scenario != args[0] || r.Failure != "" || r.Settings["timeout"] != "1m30s" {
		t.Errorf("%+v", r)
	}
	for _, table := range r.Tables {
		if !strings.Contains(stdout.String(), table.Title) {
			t.Errorf("%q isn't printed", table.Title)
		}
	}
	return &r
}

// cell returns the samples of a row in a column.
func (r *report) cell(t *testing.T, row, column string) []float64 {
	t.Helper()
	for _, table := range r.Tables {
		for i, c := range table.Columns {
			for _, w := range table.Rows {
				if c.Name == column && w.Name == row {
					return w.Cells[i]
				}
			}
		}
	}
	t.Fatalf("no cell %q, %q", row, column)
	return nil
}

// wantAll checks that each row has a positive value a round in a column.
func (r *report) wantAll(t *testing.T, rounds int, columns ...string) {
	t.Helper()
	for _, table := range r.Tables {
		for _, w := range table.Rows {
			for _, name := range columns {
				values := r.cell(t, w.Name, name)
				if len(values) != rounds {
					t.Errorf("%s, %s: %d values for %d rounds", w.Name, name, len(values), rounds)
				}
				for _, v := range values {
					if v <= 0 {
						t.Errorf("%s, %s: %v", w.Name, name, values)
					}
				}
			}
		}
	}
}

func TestIdle(t *testing.T) {
	r := runSmall(t, "idle", "--sessions", "50", "--rounds", "1")
	r.wantAll(t, 1, "sessions", "heap", "RSS with none", "objects")
	if len(r.Tables[0].Rows) != 4 || len(r.Goals) != 4 {
		t.Errorf("%d transports, %d goals", len(r.Tables[0].Rows), len(r.Goals))
	}
	if tcp, tls := r.cell(t, "tcp", "heap")[0], r.cell(t, "tls", "heap")[0]; tls <= tcp {
		t.Errorf("a TLS session takes %v bytes, a TCP one %v", tls, tcp)
	}
}

func TestStorm(t *testing.T) {
	r := runSmall(t, "storm", "--rivals=false", "--rounds", "2", "--connections", "300", "--duration", "5s")
	r.wantAll(t, 2, "connections", "server CPU each", "to the last")
	runSmall(t, "storm", "--rivals=false", "--rounds", "1", "--connections", "50", "--reset=false")
}

func TestBroadcast(t *testing.T) {
	for transport, size := range map[string]string{"tcp": "64", "ws": "20000"} {
		r := runSmall(t, "broadcast", "--sessions", "50", "--messages", "3", "--rounds", "1", "--transport", transport, "--size", size)
		r.wantAll(t, 1, "until all have it", "deliveries", "sender busy", "to loop of Send")
	}
}

func TestLarge(t *testing.T) {
	if testkit.RaceEnabled {
		t.Skip("SKIPPED: comparing so many bytes takes a minute under the race detector; it runs without")
	}
	r := runSmall(t, "large", "--rivals=false", "--rounds", "1", "--sessions", "2", "--duration", "300ms")
	r.wantAll(t, 1, "one way", "messages", "server CPU a MiB", "server RSS")
	if len(r.Tables) != len(largeLoads) {
		t.Errorf("%d tables", len(r.Tables))
	}
}

func TestSlow(t *testing.T) {
	r := runSmall(t, "slow", "--sessions", "50", "--rounds", "1", "--duration", "200ms")
	r.wantAll(t, 1, "fast messages", "to without", "server RSS, peak")
	for _, row := range []string{"inline, ", "workers, "} {
		if with, without := r.cell(t, row+"with", "verified of slow ones")[0],
			r.cell(t, row+"without", "verified of slow ones")[0]; with <= 0 || without != 0 {
			t.Errorf("%s: slow readers verified %v bytes with, %v without", row, with, without)
		}
	}
}

func TestMisuse(t *testing.T) {
	for _, c := range []struct{ args, names string }{
		{"", "usage"},
		{"sleep", `"sleep"`},
		{"idle --sessions -1", "--sessions"},
		{"idle --transports tcp,smoke", `"smoke"`},
		{"idle --rounds 0", "--rounds"},
		{"idle --timeout 0s", "--timeout"},
		{"idle now", `"now"`},
		{"storm --duration 0s", "--duration"},
		{"storm --threads 0", "--threads"},
		{"storm --connections 0", "--connections"},
		{"broadcast --transport pigeon", `"pigeon"`},
		{"broadcast --size 1", "--size"},
		{"broadcast --sessions 20000", "--sessions"},
		{"broadcast --messages 0", "--messages"},
		{"large --sessions 0", "--sessions"},
		{"slow --inflight 0", "--inflight"},
		{"slow --speed 11", "speed"},
		{"blocking --sleep 1ms", "--sleep"},
		{"blocking --every 1", "--every"},
		{"blocking --rate 0", "--rate"},
		{"blocking --sleeper-rate 1e6", "--sleeper-rate"},
		{"blocking --probes 0", "--probes"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), strings.Fields(c.args), &stdout, &stderr); code != 2 {
			t.Errorf("%s: exit code %d", c.args, code)
		}
		if !strings.Contains(stderr.String(), c.names) {
			t.Errorf("%s: stderr %q", c.args, stderr.String())
		}
	}
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"--help"}, &stdout, &stderr); code != 0 || !strings.Contains(stderr.String(), "million") {
		t.Errorf("help: %d, %q", code, stderr.String())
	}
}

// TestInterrupted cancels a scenario in its middle, and lets another one take
// too long: both end at once, by name, and leave no child process.
func TestInterrupted(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(bench.ErrUnsupported)
	}
	for _, name := range []string{"idle", "storm", "broadcast", "large", "slow", "blocking"} {
		args := []string{name, "--rounds", "50"}
		if name == "storm" || name == "large" {
			args = append(args, "--rivals=false")
		}
		ctx, cancel := context.WithTimeout(context.Background(), 700*time.Millisecond)
		var stdout, stderr bytes.Buffer
		if code := run(ctx, args, &stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "context deadline exceeded") {
			t.Errorf("%s: exit code %d, stderr %q", name, code, stderr.String())
		}
		cancel()
	}
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"slow", "--timeout", "300ms"}, &stdout, &stderr); code != 1 ||
		!strings.Contains(stderr.String(), "--timeout 300ms") {
		t.Errorf("exit code %d, stderr %q", code, stderr.String())
	}
}

// TestDeadChildIsNamed kills a server and asks it.
func TestDeadChildIsNamed(t *testing.T) {
	c, _, err := startServer(context.Background(), "the server", serverSettings{Transport: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask[serverStats](context.Background(), c, "dance", nil); err == nil ||
		!strings.Contains(err.Error(), `the server: no command "dance"`) {
		t.Errorf("an unknown command: %v", err)
	}
	stats, err := ask[serverStats](context.Background(), c, "stats", nil)
	if err != nil || stats.Active != 0 {
		t.Errorf("%+v, %v", stats, err)
	}
	if err := c.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := ask[serverStats](context.Background(), c, "stats", nil); err == nil ||
		!strings.Contains(err.Error(), "the server has ended") {
		t.Errorf("a dead server: %v", err)
	}
	if err := c.stop(); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("its end: %v", err)
	}
	if _, _, err := startServer(context.Background(), "the server", serverSettings{Transport: "smoke"}); err == nil ||
		!strings.Contains(err.Error(), `"smoke"`) {
		t.Errorf("a server that can't start: %v", err)
	}
}

func TestFigures(t *testing.T) {
	for _, c := range []struct {
		v    float64
		u    unit
		want string
	}{
		{450, byteCount, "450 B"}, {1 << 20, byteCount, "1 MiB"}, {1202e6, byteCount, "1.12 GiB"}, {-2048, byteCount, "-2 KiB"},
		{12_345, perSecond, "12.3 k/s"}, {1.5e9, bytesASec, "1.5 GB/s"}, {28_400, nanos, "28.4 µs"}, {3e9, nanos, "3 s"},
		{0.684, plainRatio, "0.68x"}, {10_000, count, "10000"}, {231.26, count, "231.3"},
	} {
		if got := human(c.v, c.u); got != c.want {
			t.Errorf("%v %s is %q, want %q", c.v, c.u, got, c.want)
		}
	}
	if got := spread([]float64{9, 1, 5}, count); got != "5 (1..9)" {
		t.Error(got)
	}
	if got := spread([]float64{4, 3, 2, 1}, count); got != "2 (1..4)" {
		t.Error(got)
	}
	if got := spread(nil, count); got != "-" {
		t.Error(got)
	}
}
