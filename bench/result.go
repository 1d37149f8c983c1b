package bench

import (
	"fmt"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

// Progress is the state of a run.
type Progress struct {
	Phase    string        // "ramp-up", "warm-up" or "measuring"
	Elapsed  time.Duration // since the load began
	Verified int64         // replies so far
	Rate     float64       // of late, messages a second
	Errors   int           // sessions that have failed
}

// Result has the figures of a run.
type Result struct {
	URL      string        `json:"url"`
	Sessions int           `json:"sessions"`
	Streams  int           `json:"streams"`
	InFlight int           `json:"inflight"`
	Size     int           `json:"size"` // bytes; 0 with Sizes
	Sizes    []int         `json:"sizes,omitempty"`
	OneWay   bool          `json:"one_way"`
	Raw      bool          `json:"raw"`
	Separate bool          `json:"separate"`
	Started  time.Time     `json:"started"`
	RampUp   time.Duration `json:"ramp_up"`  // nanoseconds, as the next ones
	Warmup   time.Duration `json:"warmup"`   // as set
	Duration time.Duration `json:"duration"` // as measured
	Messages int64         `json:"messages"` // verified within Duration
	Rate     float64       `json:"rate"`     // Messages a second
	Bytes    int64         `json:"bytes"`    // of these replies, with packet and frame headers, without TLS's and QUIC's

	// Interrupted is set if the context ended the run early.
	Interrupted bool `json:"interrupted"`

	// ClientCPUs is the CPU time of this process in Duration, divided by Duration: the
	// number of CPUs that the load took. If it is near the number of Loops, or the
	// client and the server share all CPUs, then the client limits Rate.
	ClientCPUs float64 `json:"client_cpus"`

	// TargetRate is Config.Rate, 0 for a closed loop. Unsent is how many of its
	// requests were due in the measured time and never sent, because the window was
	// full of unanswered ones; the latencies include their waiting times.
	TargetRate float64 `json:"target_rate"`
	Poisson    bool    `json:"poisson"`
	Unsent     int64   `json:"unsent"`

	// Verified counts every reply, including those of the warm-up and of the end.
	Verified int64 `json:"verified"`
	// Errors counts the sessions (or streams) that failed, Faults counts them by
	// kind, and FirstError describes the first.
	Errors     int            `json:"errors"`
	Faults     map[string]int `json:"faults"`
	FirstError string         `json:"first_error,omitempty"`

	// Latency. In an open loop it is measured for every request due in the measured time,
	// from the time when it was due. In a closed loop it is measured for one request in each
	// window, from the write of the request to the read of its reply. A server that stalls
	// gets fewer requests in a closed loop, so these latencies are too low.
	Samples     int64         `json:"samples"`
	LatencyMean time.Duration `json:"latency_mean"` // nanoseconds, as the next ones
	LatencyP50  time.Duration `json:"latency_p50"`
	LatencyP90  time.Duration `json:"latency_p90"`
	LatencyP99  time.Duration `json:"latency_p99"`
	LatencyP999 time.Duration `json:"latency_p999"`
	LatencyMax  time.Duration `json:"latency_max"`

	// Percentiles is the whole curve, denser towards 100.
	Percentiles []Percentile `json:"percentiles"`
	// Series is the throughput over the measured time.
	Series []Point `json:"series"`
}

// Percentile is a point of the latency curve: Percent of the requests took
// Latency or less.
type Percentile struct {
	Percent float64       `json:"percent"`
	Latency time.Duration `json:"latency"` // nanoseconds
}

// Point is a piece of the measured time.
type Point struct {
	At   time.Duration `json:"at"`   // of its end, since measuring began; nanoseconds
	Rate float64       `json:"rate"` // messages a second since the point before
}

// Behind is a sentence if the server of an open loop couldn't keep up; otherwise it is
// empty.
func (r *Result) Behind() string {
	if r.Unsent == 0 {
		return ""
	}
	return fmt.Sprintf("the server didn't keep up with %.0f messages/s: %d requests were due and never sent, with %d in flight a session",
		r.TargetRate, r.Unsent, r.InFlight)
}

// DialError is the failure of one session to connect; the sessions before it have
// connected. Err is the error of the network or of the handshake.
type DialError struct {
	Session  int // from 1
	Sessions int // in the whole load
	Err      error
}

// Error names the session and the reason.
func (e *DialError) Error() string {
	return fmt.Sprintf("bench: session %d of %d: %v", e.Session, e.Sessions, e.Err)
}

// Unwrap returns Err.
func (e *DialError) Unwrap() error { return e.Err }

func (r *Result) setLatency(h *hdr.Histogram) {
	at := func(percent float64) time.Duration { return time.Duration(h.ValueAtQuantile(percent)) }
	r.Samples = h.TotalCount()
	if r.Samples == 0 {
		return
	}
	r.LatencyMean, r.LatencyMax = time.Duration(h.Mean()), time.Duration(h.Max())
	r.LatencyP50, r.LatencyP90, r.LatencyP99, r.LatencyP999 = at(50), at(90), at(99), at(99.9)
	for _, b := range h.CumulativeDistributionWithTicks(10) {
		r.Percentiles = append(r.Percentiles, Percentile{b.Quantile, time.Duration(b.ValueAt)})
	}
}
