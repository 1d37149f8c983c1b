package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"strings"
	"time"
)

//go:embed report.html
var reportHTML string

var reportTemplate = template.Must(template.New("report").Parse(reportHTML))

// Size of a chart's drawing, in units of its SVG, and the margins for its labels.
const (
	chartWidth, chartHeight           = 720.0, 300.0
	chartLeft, chartRight             = 78.0, 32.0
	chartTop, chartBottom             = 14.0, 36.0
	reportMaxNines                    = 5.0 // the curve goes to 99.999 %
	throughputColumns, throughputRows = 5, 4
)

// A chart is a line with its axes' labels, in SVG's coordinates.
type chart struct {
	Line, Area string
	X, Y       []label
}

// A label belongs to a grid line.
type label struct {
	At   float64
	Text string
}

type row struct{ Name, Value string }

// WriteHTML writes a page about the run. The page needs no script, font or network. It
// returns the errors of w.
func (r *Result) WriteHTML(w io.Writer) error {
	return reportTemplate.Execute(w, map[string]any{
		"Result": r, "Started": r.Started.Format("2006-01-02 15:04:05 MST"),
		"Verdict": r.verdict(), "Failed": r.Errors > 0, "Cards": r.cards(), "Settings": r.settings(),
		"Latency": r.latencyChart(), "Throughput": r.throughputChart(), "Faults": r.Faults,
	})
}

func (r *Result) verdict() string {
	switch {
	case r.Errors > 0:
		return fmt.Sprintf("%d of %d sessions failed", r.Errors, r.Sessions*max(r.Streams, 1))
	case r.Interrupted:
		return "interrupted; every reply until then was verified"
	default:
		return "every reply was verified"
	}
}

func (r *Result) cards() []row {
	seconds := max(r.Duration, 1).Seconds()
	return []row{
		{"messages/s", Count(r.Rate)}, {"MB/s", fmt.Sprintf("%.1f", float64(r.Bytes)/seconds/1e6)},
		{"mean", Latency(r.LatencyMean)}, {"p50", Latency(r.LatencyP50)}, {"p90", Latency(r.LatencyP90)},
		{"p99", Latency(r.LatencyP99)}, {"p99.9", Latency(r.LatencyP999)}, {"max", Latency(r.LatencyMax)},
	}
}

func (r *Result) settings() []row {
	loop, size, kind := "closed", fmt.Sprintf("%d bytes", r.Size), "request and response"
	if r.Separate {
		loop += ", separate clients"
	}
	if r.TargetRate > 0 {
		loop = fmt.Sprintf("open, %s messages/s, evenly spaced", Count(r.TargetRate))
		if r.Poisson {
			loop = strings.Replace(loop, "evenly", "Poisson", 1)
		}
	}
	if len(r.Sizes) > 0 {
		size = strings.Trim(fmt.Sprint(r.Sizes), "[]") + " bytes, by chance"
	}
	if r.OneWay {
		kind = "one-way"
	}
	if r.Raw {
		kind += ", returned as it is"
	}
	return []row{
		{"server", r.URL}, {"sessions", fmt.Sprint(r.Sessions)}, {"streams a session", fmt.Sprint(r.Streams)},
		{"in flight", fmt.Sprint(r.InFlight)}, {"payload", size}, {"messages", kind}, {"loop", loop},
		{"ramp-up", r.RampUp.String()}, {"warm-up", r.Warmup.String()}, {"measured", r.Duration.Round(time.Millisecond).String()},
		{"replies in that time", fmt.Sprint(r.Messages)}, {"replies in all", fmt.Sprint(r.Verified)}, {"latency samples", fmt.Sprint(r.Samples)},
		{"client's CPUs", fmt.Sprintf("%.2f", r.ClientCPUs)},
	}
}

// latencyChart draws latency over the number of nines, both logarithmic.
func (r *Result) latencyChart() chart {
	if len(r.Percentiles) == 0 {
		return chart{}
	}
	low, high := math.Floor(log10(r.Percentiles[0].Latency)), math.Ceil(log10(r.LatencyMax))
	high = max(high, low+1)
	var xs, ys []float64
	for _, p := range r.Percentiles {
		nines := reportMaxNines
		if p.Percent < 100 {
			nines = min(-math.Log10(1-p.Percent/100), reportMaxNines)
		}
		xs = append(xs, nines/reportMaxNines)
		ys = append(ys, (log10(p.Latency)-low)/(high-low))
	}
	c := newChart(xs, ys)
	for _, percent := range []float64{0, 50, 90, 99, 99.9, 99.99, 99.999} {
		c.X = append(c.X, label{chartX(-math.Log10(1-percent/100) / reportMaxNines), fmt.Sprintf("%g", percent)})
	}
	for e := low; e <= high; e++ {
		c.Y = append(c.Y, label{chartY((e - low) / (high - low)), Latency(time.Duration(math.Pow(10, e)))})
	}
	return c
}

func (r *Result) throughputChart() chart {
	if len(r.Series) == 0 {
		return chart{}
	}
	top, end := 1.0, r.Series[len(r.Series)-1].At.Seconds()
	for _, p := range r.Series {
		top = max(top, p.Rate)
	}
	across, up := roundStep(end/throughputColumns), roundStep(top/throughputRows)
	top = up * math.Ceil(top/up)
	var xs, ys []float64
	for _, p := range r.Series {
		xs = append(xs, p.At.Seconds()/end)
		ys = append(ys, p.Rate/top)
	}
	c := newChart(append([]float64{0}, xs...), append([]float64{ys[0]}, ys...))
	for i := 0.0; i*across <= end; i++ {
		c.X = append(c.X, label{chartX(i * across / end), fmt.Sprintf("%.3gs", i*across)})
	}
	for i := 0.0; i*up <= top; i++ {
		c.Y = append(c.Y, label{chartY(i * up / top), Count(i * up)})
	}
	return c
}

// roundStep is the first of 1, 2, 5, 10, … times a power of ten that is at least
// n, which is above 0.
func roundStep(n float64) float64 {
	power := math.Pow(10, math.Floor(math.Log10(n)))
	for _, step := range []float64{1, 2, 5} {
		if step*power >= n {
			return step * power
		}
	}
	return 10 * power
}

// newChart draws a line through points whose coordinates are parts of 1.
func newChart(xs, ys []float64) chart {
	var line strings.Builder
	for i := range xs {
		fmt.Fprintf(&line, "%.1f,%.1f ", chartX(xs[i]), chartY(ys[i]))
	}
	points := strings.TrimSpace(line.String())
	area := fmt.Sprintf("%.1f,%.1f %s %.1f,%.1f", chartX(xs[0]), chartY(0), points, chartX(xs[len(xs)-1]), chartY(0))
	return chart{Line: points, Area: area}
}

func chartX(part float64) float64 { return chartLeft + part*(chartWidth-chartLeft-chartRight) }
func chartY(part float64) float64 {
	return chartHeight - chartBottom - part*(chartHeight-chartTop-chartBottom)
}
func log10(d time.Duration) float64 { return math.Log10(float64(max(d, 1))) }

// Latency formats d with three digits.
func Latency(d time.Duration) string {
	digits := time.Duration(1)
	for d/digits >= 1000 {
		digits *= 10
	}
	return d.Round(digits).String()
}

// Count writes n with three digits and k or M.
func Count(n float64) string {
	switch {
	case n >= 1e6:
		return fmt.Sprintf("%.3gM", n/1e6)
	case n >= 1e3:
		return fmt.Sprintf("%.3gk", n/1e3)
	default:
		return fmt.Sprintf("%.3g", n)
	}
}
