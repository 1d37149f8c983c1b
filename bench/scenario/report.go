package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A unit determines the format of a figure.
type unit string

const (
	count      unit = ""      // a number of things
	byteCount  unit = "B"     // bytes
	nanos      unit = "ns"    // a time
	perSecond  unit = "1/s"   // a rate of things
	bytesASec  unit = "B/s"   // a rate of bytes
	plainRatio unit = "ratio" // how many times as much
)

// A column of a table: a figure and its unit.
type column struct {
	Name string `json:"name"`
	Unit unit   `json:"unit"`
}

// A row holds one contestant's samples, one slice a column, one value a round.
// An empty slice is a column that doesn't apply to the contestant.
type row struct {
	Name  string      `json:"name"`
	Cells [][]float64 `json:"samples"`
}

// newRow returns a row with an empty slice for the samples of each column.
func newRow(name string, columns int) *row {
	return &row{Name: name, Cells: make([][]float64, columns)}
}

// add appends a round's values, one a column.
func (r *row) add(values ...float64) {
	for i, v := range values {
		r.Cells[i] = append(r.Cells[i], v)
	}
}

// A table is one part of a report.
type table struct {
	Title   string   `json:"title"`
	Columns []column `json:"columns"`
	Rows    []*row   `json:"rows"`
}

// A goal is a required value of a figure, and the result.
type goal struct {
	Text    string `json:"text"`
	Got     string `json:"got"`
	Reached bool   `json:"reached"`
}

// A report has the figures of a scenario.
type report struct {
	Scenario string            `json:"scenario"`
	Date     time.Time         `json:"date"`
	Machine  string            `json:"machine"`
	Settings map[string]string `json:"settings"`
	Tables   []*table          `json:"tables"`
	Goals    []goal            `json:"goals"`
	Notes    []string          `json:"notes,omitempty"`
	Failure  string            `json:"failure,omitempty"`
}

func (r *report) addTable(title string, columns ...column) *table {
	t := &table{Title: title, Columns: columns}
	r.Tables = append(r.Tables, t)
	return t
}

func (t *table) addRow(name string) *row {
	w := newRow(name, len(t.Columns))
	t.Rows = append(t.Rows, w)
	return w
}

func (r *report) note(format string, args ...any) {
	r.Notes = append(r.Notes, fmt.Sprintf(format, args...))
}

func (r *report) addGoal(text, got string, reached bool) {
	r.Goals = append(r.Goals, goal{text, got, reached})
}

// describe fills in the machine and the settings of the measurement.
func (r *report) describe(fs *flag.FlagSet) {
	r.Date = time.Now().UTC().Truncate(time.Second)
	r.Machine = fmt.Sprintf("%d CPUs, %s/%s, %s", runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	r.Settings = map[string]string{}
	fs.VisitAll(func(f *flag.Flag) { r.Settings[f.Name] = f.Value.String() })
}

// print writes the report as text.
func (r *report) print(w io.Writer) error {
	for _, t := range r.Tables {
		if err := t.print(w); err != nil {
			return err
		}
	}
	for _, g := range r.Goals {
		verdict := "missed "
		if g.Reached {
			verdict = "reached"
		}
		fmt.Fprintf(w, "goal %s  %s: %s\n", verdict, g.Text, g.Got)
	}
	for _, n := range r.Notes {
		fmt.Fprintln(w, "note:", n)
	}
	_, err := fmt.Fprintf(w, "measured on %s, %s\n", r.Machine, r.Date.Format(time.RFC3339))
	return err
}

func (t *table) print(w io.Writer) error {
	fmt.Fprintf(w, "%s (medians, with min..max)\n\n", t.Title)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range t.Columns {
		fmt.Fprint(tw, "\t", c.Name)
	}
	fmt.Fprintln(tw)
	for _, row := range t.Rows {
		fmt.Fprint(tw, row.Name)
		for i, samples := range row.Cells {
			fmt.Fprint(tw, "\t", spread(samples, t.Columns[i].Unit))
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// writeJSON writes the report, every sample included, to file.
func (r *report) writeJSON(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// spread is the median of samples with the range of them, if there is one.
func spread(samples []float64, u unit) string {
	if len(samples) == 0 {
		return "-"
	}
	low, high := human(slices.Min(samples), u), human(slices.Max(samples), u)
	middle := human(median(samples), u)
	if low == high {
		return middle
	}
	return fmt.Sprintf("%s (%s..%s)", middle, low, high)
}

// median is the middle value, the lower of two; 0 of none.
func median[T cmp.Ordered](values []T) T {
	if len(values) == 0 {
		var zero T
		return zero
	}
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}

// human writes a figure with three or four digits.
func human(v float64, u unit) string {
	switch u {
	case byteCount:
		return scaled(v, 1024, " B", " KiB", " MiB", " GiB")
	case bytesASec:
		return scaled(v, 1000, " B/s", " kB/s", " MB/s", " GB/s")
	case perSecond:
		return scaled(v, 1000, "/s", " k/s", " M/s", " G/s")
	case nanos:
		return scaled(v, 1000, " ns", " µs", " ms", " s")
	case plainRatio:
		return fmt.Sprintf("%.2fx", v)
	default:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0")
	}
}

// scaled writes v with the largest of names, each step times the one before,
// that leaves something before the point.
func scaled(v, step float64, names ...string) string {
	i := 0
	for i < len(names)-1 && (v >= step || v <= -step) {
		v /= step
		i++
	}
	if i == 0 || v >= 100 || v <= -100 {
		return fmt.Sprintf("%.0f%s", v, names[i])
	}
	return fmt.Sprintf("%.3g%s", v, names[i])
}

// A progress writes lines about the progress of a scenario.
type progress struct {
	w     io.Writer
	start time.Time
}

func newProgress(w io.Writer) *progress { return &progress{w: w, start: time.Now()} }

func (p *progress) printf(format string, args ...any) {
	fmt.Fprintf(p.w, "[%5.1f s] %s\n", time.Since(p.start).Seconds(), fmt.Sprintf(format, args...))
}
