package main

import (
	"fmt"
	"slices"
)

// A base is the contestant that a goal compares with.
type base int

const (
	toFloor    base = iota
	toNamed         // the group's named rival
	toBest          // the rival with the best value of the goal's metric
	toInline        // our own server, inline
	toMsgtrans      // msgtrans's server, which is measured with --msgtrans only
	toUWS           // uWebSockets, which is measured with --uwebsockets only
)

// A goal is a ratio that a contestant must reach: at least factor, or at most
// factor if less is better.
type goal struct {
	number   int // in the list at the end of the results
	scenario scenario
	name     string // of the contestant
	metric   metric
	base     base
	factor   float64
}

// A result is one scenario's samples, of each contestant by round.
type result struct {
	group    *group
	scenario scenario
	runs     map[string][]sample // by the contestant's name
}

// best is the name of the rival with the best value of m; empty without rivals.
func (r *result) best(m metric) string {
	best, bestValue := "", 0.0
	for _, c := range r.group.in(r.scenario) {
		if c.role != rival || len(r.runs[c.name]) == 0 {
			continue
		}
		value := median(collect(r.runs[c.name], m.of))
		if best == "" || (value < bestValue) == m.lower && value != bestValue {
			best, bestValue = c.name, value
		}
	}
	return best
}

// baseName is the name of the contestant that b stands for; empty without it.
func (r *result) baseName(b base, m metric) string {
	switch b {
	case toNamed:
		return r.group.named
	case toBest:
		return r.best(m)
	case toInline:
		return inline
	case toMsgtrans:
		return msgtransServer
	case toUWS:
		return uwebsockets
	}
	contestants := r.group.in(r.scenario)
	i := slices.IndexFunc(contestants, func(c contestant) bool { return c.role == floor })
	if i < 0 {
		return ""
	}
	return contestants[i].name
}

// ratios are own's figures divided by those of b, round by round. They are empty if
// either wasn't measured.
func (r *result) ratios(own string, b base, m metric) []float64 {
	return m.ratios(r.runs[own], r.runs[r.baseName(b, m)])
}

// verdicts are the lines under a table: each goal of its scenario, whether the
// median reaches it, and the number of rounds that do.
func (r *result) verdicts() []string {
	var lines []string
	for _, g := range r.group.goals {
		values := r.ratios(g.name, g.base, g.metric)
		if g.scenario != r.scenario || len(values) == 0 {
			continue
		}
		least := "at least"
		if g.metric.lower {
			least = "at most"
		}
		verdict := "**not reached**"
		if g.reached(median(values)) {
			verdict = "reached"
		}
		count := 0
		for _, v := range values {
			if g.reached(v) {
				count++
			}
		}
		lines = append(lines, fmt.Sprintf("- Goal %d: %s, %s, %s %gx that of %s: %.3gx, %s (in %d of %d rounds)", g.number,
			g.name, g.metric.name, least, g.factor, r.baseName(g.base, g.metric), median(values), verdict, count, len(values)))
	}
	return lines
}

// reached reports whether value, a ratio, reaches g.
func (g *goal) reached(value float64) bool {
	if g.metric.lower {
		return value <= g.factor
	}
	return value >= g.factor
}
