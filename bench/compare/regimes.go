package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// slowerBy is how much a regime may lose before it is marked.
const slowerBy = 0.03

// stallTries is how often a pair without a reply is measured.
const stallTries = 3

// A regime is one load on one of our servers, with the samples of both sides.
// Samples of the same index were measured immediately one after the other.
type regime struct {
	group      string
	contestant contestant
	scenario   scenario
	old, new   []sample
}

func (r *regime) String() string {
	return fmt.Sprintf("%s, %s, %s", r.group, strings.TrimPrefix(r.contestant.name, "Millrace, "), r.scenario)
}

// regimes are all regimes of our server in the chosen groups.
func regimes(chosen []group) []*regime {
	var all []*regime
	for _, g := range chosen {
		for _, sc := range g.scenarios {
			for _, c := range g.in(sc) {
				all = append(all, &regime{group: g.name, contestant: c, scenario: sc})
			}
		}
	}
	return all
}

// measurePairs loads both sides in each regime, one round after the other. When
// it fails, all has the samples up to there.
func measurePairs(ctx context.Context, all []*regime, sides [2]side, set settings, progress io.Writer) error {
	for round := range set.rounds {
		for i, r := range all {
			fmt.Fprintf(progress, "round %d of %d: %s\n", round+1, set.rounds, r)
			if err := r.measurePair(ctx, sides, (round+i)%2, set); err != nil {
				return fmt.Errorf("%s: %w", r, err)
			}
		}
	}
	return nil
}

// measurePair adds one sample of each side, and measures side first before the
// other. A pair without a reply is measured again: on a busy machine a stall can last
// longer than a run.
func (r *regime) measurePair(ctx context.Context, sides [2]side, first int, set settings) error {
	var got [2]sample
	var err error
	for range stallTries {
		got, err = r.tryPair(ctx, sides, first, set)
		if !errors.Is(err, errNoMessage) || errors.Is(err, errEnded) {
			break
		}
	}
	if err == nil {
		r.old, r.new = append(r.old, got[0]), append(r.new, got[1])
	}
	return err
}

// tryPair loads both sides once. Each sample has a process of its own: the random
// memory layout of a process can change all its figures by a few percent.
func (r *regime) tryPair(ctx context.Context, sides [2]side, first int, set settings) (got [2]sample, err error) {
	for _, i := range [2]int{first, 1 - first} {
		c := r.contestant
		c.program = sides[i].path
		c.args = append(slices.Clone(c.args), "--log-level", "error") // otherwise it warns at each start
		s, err := start("", c)
		if err == nil {
			got[i], err = s.load(ctx, r.scenario, 0, set)
			s.stop()
		}
		if err != nil {
			return got, fmt.Errorf("%s: %w", sides[i].about, err)
		}
	}
	return got, nil
}

// pairsReport is the table of all regimes that were measured, and the line with
// their means.
func pairsReport(all []*regime, sides [2]side, set settings) string {
	all = slices.DeleteFunc(slices.Clone(all), func(r *regime) bool { return len(r.old) == 0 })
	var b strings.Builder
	fmt.Fprintf(&b, "old: %s\nnew: %s\n\n", sides[0].about, sides[1].about)
	fmt.Fprintf(&b, "Each run measures %v after %v of warm-up, %d round(s), both sides in turn, the order alternating. Figures are medians\n"+
		"of the rounds. Ratios are new by old within a round: median (min..max).\n\n", set.duration, set.warmup, set.rounds)
	b.WriteString("| regime | messages/s, old | new | ratio | server CPU ns a message, old | new | ratio | client CPUs, old | new | |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|\n")
	slower := 0
	for _, r := range all {
		mark := r.mark()
		if mark != "" {
			slower++
		}
		cells := slices.Concat(r.cells(rate, human), r.cells(cpu, digits), []string{cpus(r.old), cpus(r.new)})
		fmt.Fprintf(&b, "| %s | %s | %s |\n", r, strings.Join(cells, " | "), mark)
	}
	fmt.Fprintf(&b, "\nGeometric mean of %d regimes: messages/s %.3fx, server CPU a message %.3fx; slower by more than %.0f %%: %d.\n",
		len(all), geometricMean(all, rate), geometricMean(all, cpu), 100*slowerBy, slower)
	return b.String()
}

// mark returns the metrics in which the new side is slower, and counts the rounds. It
// is empty if there is none. One round of five can be an accident of the machine.
func (r *regime) mark() string {
	var parts []string
	for _, m := range []metric{rate, cpu} {
		ratios := m.ratios(r.new, r.old)
		if !isSlower(m, median(ratios)) {
			continue
		}
		count := 0
		for _, ratio := range ratios {
			if isSlower(m, ratio) {
				count++
			}
		}
		parts = append(parts, fmt.Sprintf("%s in %d of %d rounds", m.name, count, len(ratios)))
	}
	if len(parts) == 0 {
		return ""
	}
	return "**slower**: " + strings.Join(parts, ", ")
}

func isSlower(m metric, ratio float64) bool {
	if m.lower {
		return ratio > 1+slowerBy
	}
	return ratio < 1-slowerBy
}

// cells are the table's columns for m.
func (r *regime) cells(m metric, format func(float64) string) []string {
	ratios := m.ratios(r.new, r.old)
	return []string{
		format(median(collect(r.old, m.of))), format(median(collect(r.new, m.of))),
		fmt.Sprintf("%.3f (%.2f..%.2f)", median(ratios), slices.Min(ratios), slices.Max(ratios)),
	}
}

// geometricMean is the geometric mean of the median ratios of m.
func geometricMean(all []*regime, m metric) float64 {
	sum := 0.0
	for _, r := range all {
		sum += math.Log(median(m.ratios(r.new, r.old)))
	}
	return math.Exp(sum / float64(len(all)))
}
