package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMarkdown(t *testing.T) {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	fs.Int("rounds", 5, "")
	fs.Int("sessions", 5, "")
	fs.String("write", "", "")
	if err := fs.Parse([]string{"--rounds", "3", "--write", "/here"}); err != nil {
		t.Fatal(err)
	}
	r := &report{Scenario: "blocking", Machine: "2 CPUs", Date: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	table := r.addTable("two sessions", column{"p50", nanos}, column{"sleeps", count})
	table.addRow("one").add(1500, 3)
	table.addRow("none")
	r.addGoal("less", "2x", false)
	r.addGoal("more", "3x", true)
	r.note("noise")
	want := "## Scenario blocking\n\nFigures are medians of the rounds, with min..max.\n\n" +
		"- Machine: 2 CPUs\n- Date: 2026-01-02 03:04 UTC\n- Command: `go run ./bench/scenario blocking --rounds 3`\n\n" +
		"### Two sessions\n\n| | p50 | sleeps |\n|---|---|---|\n| one | 1.5 µs | 3 |\n| none | - | - |\n\n" +
		"- Goal: less: 2x, **not reached**\n- Goal: more: 3x, reached\n- Note: noise\n"
	if got := r.markdown(fs); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestWrite replaces the part of a scenario, and checks that a failed one and one that
// can't be written leave the file as it is.
func TestWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "RESULTS.md")
	const by = "<!-- begin slow: written by bench/scenario -->\n"
	if err := os.WriteFile(file, []byte("by hand\n"+by+"old\n<!-- end slow -->\nmore\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	runSmall(t, "slow", "--sessions", "10", "--rounds", "1", "--duration", "50ms", "--write", file)
	got, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(got, []byte("by hand\n"+by+"## Scenario slow\n")) ||
		!bytes.HasSuffix(got, []byte("\n<!-- end slow -->\nmore\n")) {
		t.Errorf("%v, %s", err, got)
	}
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"slow", "--timeout", "1ns", "--write", file}, &stdout, &stderr); code != 1 {
		t.Errorf("exit code %d", code)
	}
	if again, _ := os.ReadFile(file); !bytes.Equal(again, got) {
		t.Errorf("a failed scenario wrote %s", again)
	}
	if err := os.WriteFile(file, []byte(by), 0o644); err != nil {
		t.Fatal(err)
	}
	if code := run(context.Background(), []string{"slow", "--write", file}, &stdout, &stderr); code != 2 ||
		!strings.Contains(stderr.String(), "one of each") {
		t.Errorf("exit code %d, %s", code, &stderr)
	}
}
