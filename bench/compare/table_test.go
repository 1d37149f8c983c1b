package main

import (
	"strings"
	"testing"
	"time"
)

// fourServers is a result in which the machine is ten times slower in the last
// round.
func fourServers() *result {
	rounds := func(factor, cpu float64) []sample {
		s := sample{rate: 10e6 * factor, cpu: cpu, calls: 0.004, switches: -1, client: 1.234,
			mean: 3 * time.Millisecond, p50: time.Millisecond, p99: 2 * time.Millisecond}
		slow := s
		slow.rate /= 10
		return []sample{s, s, slow}
	}
	g := &group{
		named: "slow",
		contestants: []contestant{
			{name: "base", role: floor}, {name: "slow", uncounted: true}, {name: "quick"}, {name: "mine", role: ours}, {name: "absent"},
		},
		goals: []goal{
			{1, closed(8, 1000), "mine", rate, toFloor, 0.9},
			{1, closed(8, 1000), "mine", rate, toNamed, 3.7},
			{3, closed(8, 1000), "mine", cpu, toBest, 1},
			{3, closed(8, 1000), "absent", cpu, toBest, 1},
			{4, closed(9, 1000), "mine", cpu, toBest, 1},
		},
	}
	return &result{group: g, scenario: closed(8, 1000), runs: map[string][]sample{
		"base": rounds(1, 10), "slow": rounds(0.25, 30), "quick": rounds(0.5, 40), "mine": rounds(0.9, 1234),
	}}
}

func TestTable(t *testing.T) {
	want := `### 8 x 1000 in flight

| echo | messages/s, median (min..max) | server CPU ns a message | CPU to inline | read+write calls a message | waits a message ` +
		`| of the floor | to the best rival | to slow | client CPUs | mean | p50 | p99 |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
| base | 10 M (1 M..10 M) | 10 | - | 0.004 | - | 100 % | 2.00x | 4.00x | 1.23 | 3ms | 1ms | 2ms |
| slow | 2.5 M (250 k..2.5 M) | 30 | - | - | - | 25 % | 0.50x | 1.00x | 1.23 | 3ms | 1ms | 2ms |
| quick | 5 M (500 k..5 M) | 40 | - | 0.004 | - | 50 % | 1.00x | 2.00x | 1.23 | 3ms | 1ms | 2ms |
| **mine** | 9 M (900 k..9 M) | 1234 | - | 0.004 | - | 90 % | 1.80x | 3.60x | 1.23 | 3ms | 1ms | 2ms |

- Goal 1: mine, messages/s, at least 0.9x that of base: 0.9x, reached (in 3 of 3 rounds)
- Goal 1: mine, messages/s, at least 3.7x that of slow: 3.6x, **not reached** (in 0 of 3 rounds)
- Goal 3: mine, server CPU a message, at most 1x that of slow: 41.1x, **not reached** (in 0 of 3 rounds)
`
	if got := fourServers().table(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestTableOfOne has no other contestant to compare with.
func TestTableOfOne(t *testing.T) {
	r := fourServers()
	r.runs = map[string][]sample{"mine": r.runs["mine"]}
	got := r.table()
	if want := "| **mine** | 9 M (900 k..9 M) | 1234 | - | 0.004 | - | - | - | - | 1.23 | 3ms | 1ms | 2ms |\n"; !strings.HasSuffix(got, want) {
		t.Errorf("got\n%s\nwant the end %s", got, want)
	}
}

// TestVerdictOfSome counts the rounds that reach a goal which the median misses.
func TestVerdictOfSome(t *testing.T) {
	r := fourServers()
	r.runs["mine"][0].rate = 9.5e6
	r.group.goals = []goal{{1, closed(8, 1000), "mine", rate, toFloor, 0.95}}
	want := "- Goal 1: mine, messages/s, at least 0.95x that of base: 0.9x, **not reached** (in 1 of 3 rounds)"
	if got := r.verdicts(); len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestHuman(t *testing.T) {
	for n, want := range map[float64]string{999: "999", 1234: "1.23 k", 123456: "123 k", 1234567: "1.23 M", 123456789: "123 M", 12.3: "12.3"} {
		if got := human(n); got != want {
			t.Errorf("%v is %q, want %q", n, got, want)
		}
	}
}

// TestGoals checks that the contestants and scenarios of the goals exist.
func TestGoals(t *testing.T) {
	set := settings{msgtrans: "/bin/sh", uwebsockets: "."}
	for _, g := range set.withOptional(groups) {
		scenarios := map[scenario]map[string]bool{} // names of the contestants
		for _, sc := range g.scenarios {
			names := map[string]bool{}
			for _, c := range g.in(sc) {
				if names[c.name] {
					t.Errorf("%s, %s: two contestants are called %s", g.name, sc, c.name)
				}
				names[c.name] = true
			}
			if g.named != "" && !names[g.named] {
				t.Errorf("%s, %s: no contestant is called %s", g.name, sc, g.named)
			}
			if !names[inline] || !names[workers] {
				t.Errorf("%s, %s: Millrace is missing", g.name, sc)
			}
			scenarios[sc] = names
		}
		for _, goal := range g.goals {
			names := scenarios[goal.scenario]
			r := result{group: &g, scenario: goal.scenario}
			if !names[goal.name] || goal.base != toBest && !names[r.baseName(goal.base, goal.metric)] {
				t.Errorf("%s: goal %+v has no such contestants or scenario", g.name, goal)
			}
		}
	}
}

// TestTableOfSchemes checks that a table has only contestants of its scheme, and no column
// for a named rival if there is none.
func TestTableOfSchemes(t *testing.T) {
	one, two := separate("tcp", 1), separate("ws", 16)
	g := &group{contestants: []contestant{
		{name: "rival", scheme: "tcp"}, {name: inline, scheme: "tcp", role: ours},
		{name: "rival", scheme: "ws"}, {name: inline, scheme: "ws", role: ours}, {name: workers, scheme: "ws", role: ours},
	}, goals: []goal{{3, two, workers, cpu, toInline, 1.05}, {3, one, workers, cpu, toInline, 1.05}}}
	r := result{group: g, scenario: two, runs: map[string][]sample{
		"rival": {{rate: 1000, cpu: 30, client: 0.25}}, inline: {{rate: 2000, cpu: 20, client: 0.5}}, workers: {{rate: 3000, cpu: 22, client: 0.75}},
	}}
	want := `### WebSocket, 100 x 16 in flight

| echo | messages/s, median (min..max) | server CPU ns a message | CPU to inline | read+write calls a message | waits a message ` +
		`| to the best rival | client CPUs | mean | p50 | p99 |
|---|---|---|---|---|---|---|---|---|---|---|
| rival | 1 k (1 k..1 k) | 30 | 1.50x | 0 | 0 | 1.00x | 0.25 | 0s | 0s | 0s |
| **Millrace, inline** | 2 k (2 k..2 k) | 20 | 1.00x | 0 | 0 | 2.00x | 0.50 | 0s | 0s | 0s |
| **Millrace, workers** | 3 k (3 k..3 k) | 22 | 1.10x | 0 | 0 | 3.00x | 0.75 | 0s | 0s | 0s |

- Goal 3: Millrace, workers, server CPU a message, at most 1.05x that of Millrace, inline: 1.1x, **not reached** (in 0 of 1 rounds)
`
	if got := r.table(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
