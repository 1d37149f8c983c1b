package main

import (
	"cmp"
	"slices"
	"time"
)

// A usage is the resources that a process has used since it began.
type usage struct {
	cpu time.Duration

	calls      int64 // of read, write and their vector forms; not sendmsg and similar calls
	callsKnown bool

	switches      int64 // of threads that gave up their CPU to wait
	switchesKnown bool
}

// A sample is one server's figures in one round.
type sample struct {
	rate     float64 // messages a second
	cpu      float64 // nanoseconds of the server's CPU a message
	calls    float64 // reads and writes of the server a message; negative if unknown
	switches float64 // voluntary context switches a message; negative if unknown
	client   float64 // CPUs that the load generator took
	mean     time.Duration
	p50, p99 time.Duration
}

// newSample returns the figures for messages and the server's usage for them.
func newSample(rate float64, messages int64, before, after usage) sample {
	n := float64(messages)
	s := sample{rate: rate, cpu: float64((after.cpu - before.cpu).Nanoseconds()) / n, calls: -1, switches: -1}
	if before.callsKnown && after.callsKnown {
		s.calls = float64(after.calls-before.calls) / n
	}
	if before.switchesKnown && after.switchesKnown {
		s.switches = float64(after.switches-before.switches) / n
	}
	return s
}

// A metric is a figure of a sample that is compared.
type metric struct {
	name  string
	of    func(sample) float64
	lower bool // a lower value is better
}

var (
	rate = metric{name: "messages/s", of: func(s sample) float64 { return s.rate }}
	cpu  = metric{name: "server CPU a message", of: func(s sample) float64 { return s.cpu }, lower: true}
	p99  = metric{name: "p99", of: func(s sample) float64 { return float64(s.p99) }, lower: true}
)

// ratios are own divided by base, round by round: if other programs use the machine,
// only figures of the same time can be compared.
func (m metric) ratios(own, base []sample) []float64 {
	r := make([]float64, min(len(own), len(base)))
	for i := range r {
		r[i] = m.of(own[i]) / m.of(base[i])
	}
	return r
}

func collect[T any](samples []sample, field func(sample) T) []T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = field(s)
	}
	return values
}

// median is the middle value, the lower of two.
func median[T cmp.Ordered](values []T) T {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[(len(sorted)-1)/2]
}
