package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/bench"
)

// outputs are the files that a result goes to, empty for none.
type outputs struct{ json, html string }

func (o outputs) write(stdout io.Writer, r *bench.Result) error {
	var err error
	if o.json == "-" {
		err = writeJSON(stdout, r)
	} else {
		err = summarize(stdout, r)
		if o.json != "" {
			err = errors.Join(err, toFile(o.json, func(w io.Writer) error { return writeJSON(w, r) }))
		}
	}
	if o.html != "" {
		err = errors.Join(err, toFile(o.html, r.WriteHTML))
	}
	return err
}

func writeJSON(w io.Writer, r *bench.Result) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

func toFile(name string, write func(io.Writer) error) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(file), file.Close())
}

// summarize writes the summary as text.
func summarize(w io.Writer, r *bench.Result) error {
	fmt.Fprintf(w, "%s: %d sessions x %d in flight, %s payload, %v", r.URL, r.Sessions*r.Streams, r.InFlight,
		payload(r), r.Duration.Round(time.Millisecond))
	if r.Interrupted {
		fmt.Fprint(w, ", interrupted")
	}
	fmt.Fprintln(w)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "msg/s\tMB/s\tmean\tp50\tp90\tp99\tp99.9\tmax\t")
	fmt.Fprintf(t, "%.0f\t%.1f\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Rate, float64(r.Bytes)/max(r.Duration, 1).Seconds()/1e6,
		bench.Latency(r.LatencyMean), bench.Latency(r.LatencyP50), bench.Latency(r.LatencyP90),
		bench.Latency(r.LatencyP99), bench.Latency(r.LatencyP999), bench.Latency(r.LatencyMax))
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d verified in all, %d latency samples, %d sessions failed\n", r.Verified, r.Samples, r.Errors)
	for _, kind := range slices.Sorted(maps.Keys(r.Faults)) {
		fmt.Fprintf(w, "  %s: %d\n", kind, r.Faults[kind])
	}
	if r.FirstError != "" {
		_, err = fmt.Fprintln(w, "first failure:", r.FirstError)
	}
	fmt.Fprintf(w, "the client took %.2f of %d CPUs\n", r.ClientCPUs, runtime.NumCPU())
	if behind := r.Behind(); behind != "" {
		_, err = fmt.Fprintln(w, behind)
	}
	return err
}

func payload(r *bench.Result) string {
	if len(r.Sizes) > 0 {
		return fmt.Sprintf("%d-to-%d-byte", slices.Min(r.Sizes), slices.Max(r.Sizes))
	}
	return fmt.Sprintf("%d-byte", r.Size)
}
