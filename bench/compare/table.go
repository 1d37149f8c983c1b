package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// table is the Markdown table of one scenario, and the goals beneath it. A
// ratio is the median of the ratios within a round; other figures are medians, too.
func (r *result) table() string {
	hasFloor := r.baseName(toFloor, rate) != ""
	var b strings.Builder
	fmt.Fprintf(&b, "### %s in flight\n\n", r.scenario)
	columns := []string{"echo", "messages/s, median (min..max)", "server CPU ns a message", "CPU to inline", "read+write calls a message", "waits a message"}
	if hasFloor {
		columns = append(columns, "of the floor")
	}
	columns = append(columns, "to the best rival")
	if r.group.named != "" {
		columns = append(columns, "to "+r.group.named)
	}
	columns = append(columns, "client CPUs", "mean", "p50", "p99")
	fmt.Fprintf(&b, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, c := range r.group.in(r.scenario) {
		if len(r.runs[c.name]) > 0 {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(r.row(c, hasFloor), " | "))
		}
	}
	if lines := r.verdicts(); len(lines) > 0 {
		fmt.Fprintf(&b, "\n%s\n", strings.Join(lines, "\n"))
	}
	return b.String()
}

// row is c's line of the table.
func (r *result) row(c contestant, hasFloor bool) []string {
	own := r.runs[c.name]
	rates := collect(own, rate.of)
	calls := median(collect(own, func(s sample) float64 { return s.calls }))
	if c.uncounted {
		calls = -1
	}
	name := c.name
	if c.role == ours {
		name = "**" + name + "**"
	}
	cells := []string{
		name,
		fmt.Sprintf("%s (%s..%s)", human(median(rates)), human(slices.Min(rates)), human(slices.Max(rates))),
		digits(median(collect(own, cpu.of))),
		ratioCell("%.2fx", 1, r.ratios(c.name, toInline, cpu)),
		perMessage(calls),
		perMessage(median(collect(own, func(s sample) float64 { return s.switches }))),
	}
	if hasFloor {
		cells = append(cells, ratioCell("%.0f %%", 100, r.ratios(c.name, toFloor, rate)))
	}
	cells = append(cells, ratioCell("%.2fx", 1, r.ratios(c.name, toBest, rate)))
	if r.group.named != "" {
		cells = append(cells, ratioCell("%.2fx", 1, r.ratios(c.name, toNamed, rate)))
	}
	return append(cells,
		cpus(own),
		median(collect(own, func(s sample) time.Duration { return s.mean })).Round(time.Microsecond).String(),
		median(collect(own, func(s sample) time.Duration { return s.p50 })).Round(time.Microsecond).String(),
		median(collect(own, func(s sample) time.Duration { return s.p99 })).Round(time.Microsecond).String())
}

// cpus writes how many CPUs the load generator took.
func cpus(samples []sample) string {
	return fmt.Sprintf("%.2f", median(collect(samples, func(s sample) float64 { return s.client })))
}

// ratioCell writes the median of ratios, or a dash if there is none.
func ratioCell(format string, factor float64, ratios []float64) string {
	if len(ratios) == 0 {
		return "-"
	}
	return fmt.Sprintf(format, factor*median(ratios))
}

// perMessage writes a count, or a dash if it is unknown.
func perMessage(n float64) string {
	if n < 0 {
		return "-"
	}
	return fmt.Sprintf("%.2g", n)
}

// digits writes n with three digits, and never with an exponent.
func digits(n float64) string {
	if n >= 100 {
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.3g", n)
}

// human writes a rate with three digits.
func human(rate float64) string {
	switch {
	case rate >= 1e6:
		return digits(rate/1e6) + " M"
	case rate >= 1e3:
		return digits(rate/1e3) + " k"
	default:
		return digits(rate)
	}
}
