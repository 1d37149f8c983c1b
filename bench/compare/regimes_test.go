package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/framing"
)

// samples have the rates and the CPU times of rounds.
func samples(rates, cpus []float64) []sample {
	s := make([]sample, len(rates))
	for i := range s {
		s[i] = sample{rate: rates[i], cpu: cpus[i], client: 0.5}
	}
	return s
}

// threeRegimes are one that loses rate, one that loses CPU, and one that was not
// measured. The machine is ten times slower in the last round.
func threeRegimes() []*regime {
	inlineServer := contestant{name: inline}
	return []*regime{
		{
			group: "tcp", contestant: inlineServer, scenario: closed(8, 1000),
			old: samples([]float64{10e6, 10e6, 1e6}, []float64{100, 100, 100}),
			new: samples([]float64{9e6, 9.9e6, 0.9e6}, []float64{100, 103, 90}),
		}, {
			group: "quic", contestant: contestant{name: workers}, scenario: streams16,
			old: samples([]float64{100, 100, 10}, []float64{1000, 1000, 1000}),
			new: samples([]float64{110, 90, 11}, []float64{1031, 1029, 1040}),
		}, {
			group: "ws", contestant: inlineServer, scenario: closed(8, 1000),
		},
	}
}

func TestPairsReport(t *testing.T) {
	set := settings{rounds: 3, duration: time.Second, warmup: time.Millisecond}
	want := `old: one
new: other

Each run measures 1s after 1ms of warm-up, 3 round(s), both sides in turn, the order alternating. Figures are medians
of the rounds. Ratios are new by old within a round: median (min..max).

| regime | messages/s, old | new | ratio | server CPU ns a message, old | new | ratio | client CPUs, old | new | |
|---|---|---|---|---|---|---|---|---|---|
| tcp, inline, 8 x 1000 | 10 M | 9 M | 0.900 (0.90..0.99) | 100 | 100 | 1.000 (0.90..1.03) | 0.50 | 0.50 | **slower**: messages/s in 2 of 3 rounds |
| quic, workers, 1 x 64 streams x 16 | 100 | 90 | 1.100 (0.90..1.10) | 1000 | 1031 | 1.031 (1.03..1.04) | 0.50 | 0.50 | **slower**: server CPU a message in 2 of 3 rounds |

Geometric mean of 2 regimes: messages/s 0.995x, server CPU a message 1.015x; slower by more than 3 %: 2.
`
	if got := pairsReport(threeRegimes(), [2]side{{about: "one"}, {about: "other"}}, set); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestMark checks ratios on both sides of the limit.
func TestMark(t *testing.T) {
	for _, c := range []struct {
		rate, cpu float64
		want      string
	}{
		{1, 1, ""},
		{2, 0.5, ""},
		{0.9701, 1.0299, ""},
		{0.9699, 1, "**slower**: messages/s in 1 of 1 rounds"},
		{1, 1.0301, "**slower**: server CPU a message in 1 of 1 rounds"},
		{0.5, 2, "**slower**: messages/s in 1 of 1 rounds, server CPU a message in 1 of 1 rounds"},
	} {
		r := regime{old: samples([]float64{1}, []float64{1}), new: samples([]float64{c.rate}, []float64{c.cpu})}
		if got := r.mark(); got != c.want {
			t.Errorf("rate %v, CPU %v: %q, want %q", c.rate, c.cpu, got, c.want)
		}
	}
}

func TestGeometricMean(t *testing.T) {
	one := regime{old: samples([]float64{1}, []float64{1}), new: samples([]float64{4}, []float64{1})}
	other := regime{old: samples([]float64{1}, []float64{1}), new: samples([]float64{0.25}, []float64{9})}
	all := []*regime{&one, &other}
	if r, c := geometricMean(all, rate), geometricMean(all, cpu); math.Abs(r-1) > 1e-9 || math.Abs(c-3) > 1e-9 {
		t.Errorf("rate %v, CPU %v", r, c)
	}
}

// TestRegimes checks that both dispatches of each group are there.
func TestRegimes(t *testing.T) {
	set, err := parseFlags([]string{"--revisions", "a,b"}, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, r := range regimes(set.groups) {
		seen[r.String()] = true
	}
	for _, want := range []string{
		"tcp, inline, 8 x 1000", "tcp, workers, 100 x 16", "tcp, inline, 100 x 1", "tcp, workers, 8 x 1", "tcp, inline, 1000 x 1",
		"ws, workers, 100 x 1", "tls, inline, 8 x 1000", "quic, workers, 1 x 64 streams x 16",
	} {
		if !seen[want] {
			t.Errorf("no %q among %v", want, seen)
		}
	}
}

// TestPairsOfOneBinary compares the echo server with itself. It doesn't check the
// figures.
func TestPairsOfOneBinary(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("builds a server and loads it")
	}
	binary := filepath.Join(t.TempDir(), "echo")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/millrace/millrace/cmd/echo").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var stdout, stderr bytes.Buffer
	args := []string{"--binaries", binary + "," + binary, "--group", "tls", "--only", "inline",
		"--rounds", "1", "--duration", "1s", "--warmup", "100ms"}
	if code := run(context.Background(), args, &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, &stderr)
	}
	for _, want := range []string{"old: " + binary, "| tls, inline, 8 x 1000 |", "| tls, inline, 100 x 1 |", "Geometric mean of 2 regimes"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("no %q in\n%s", want, &stdout)
		}
	}
}

// slowServer answers each request of 4 bytes, but later than a run of 50 ms ends.
func slowServer(t *testing.T) net.Addr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, framing.PacketHeaderSize+4)
				for {
					if _, err := io.ReadFull(c, b); err != nil {
						return
					}
					time.Sleep(300 * time.Millisecond)
					b[2] = byte(framing.Response)
					if _, err := c.Write(b); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr()
}

// TestStall checks that a pair without a reply is tried again, unless its server
// has ended.
func TestStall(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no load here")
	}
	addr := slowServer(t).String()
	for _, c := range []struct {
		then  string
		want  error
		tries int
	}{
		{"exec sleep 60", errNoMessage, stallTries},
		{"exit 3", errEnded, 1},
	} {
		dir := script(t, "echo started >> \"$0.log\"\necho ready tcp://"+addr+"\n"+c.then+"\n")
		s := side{path: filepath.Join(dir, "server")}
		r := regime{contestant: contestant{scheme: "tcp"}, scenario: closed(1, 1)}
		err := r.measurePair(context.Background(), [2]side{s, s}, 0, settings{duration: 50 * time.Millisecond, warmup: time.Millisecond})
		log, _ := os.ReadFile(s.path + ".log")
		if tries := bytes.Count(log, []byte("started")); !errors.Is(err, c.want) || tries != c.tries || len(r.old) > 0 {
			t.Errorf("%s: %v after %d tries, want %v after %d", c.then, err, tries, c.want, c.tries)
		}
	}
}
