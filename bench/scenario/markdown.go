package main

import (
	"flag"
	"fmt"
	"strings"
)

// markdown is the report as a part of bench/RESULTS.md. The command has the flags that
// were set, except for files.
func (r *report) markdown(fs *flag.FlagSet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## Scenario %s\n\nFigures are medians of the rounds, with min..max.\n\n", r.Scenario)
	command := "go run ./bench/scenario " + r.Scenario
	fs.Visit(func(f *flag.Flag) {
		if f.Name != "json" && f.Name != "write" {
			command += fmt.Sprintf(" --%s %s", f.Name, f.Value)
		}
	})
	fmt.Fprintf(&b, "- Machine: %s\n- Date: %s\n- Command: `%s`\n", r.Machine, r.Date.Format("2006-01-02 15:04 MST"), command)
	for _, t := range r.Tables {
		t.markdown(&b)
	}
	b.WriteString("\n")
	for _, g := range r.Goals {
		verdict := "**not reached**"
		if g.Reached {
			verdict = "reached"
		}
		fmt.Fprintf(&b, "- Goal: %s: %s, %s\n", g.Text, g.Got, verdict)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "- Note: %s\n", n)
	}
	return b.String()
}

func (t *table) markdown(b *strings.Builder) {
	title := strings.ToUpper(t.Title[:1]) + t.Title[1:]
	fmt.Fprintf(b, "\n### %s\n\n|", title)
	for _, c := range t.Columns {
		fmt.Fprintf(b, " | %s", c.Name)
	}
	fmt.Fprintf(b, " |\n|%s\n", strings.Repeat("---|", len(t.Columns)+1))
	for _, row := range t.Rows {
		fmt.Fprintf(b, "| %s |", row.Name)
		for i, samples := range row.Cells {
			fmt.Fprintf(b, " %s |", spread(samples, t.Columns[i].Unit))
		}
		b.WriteString("\n")
	}
}
