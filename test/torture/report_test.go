package torture_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine"
)

// report prints the results of a run: its figures in lines, and a table row with the
// figures for docs/RELIABILITY.md.
func (r *run) report(d engine.Dispatch, st engine.Stats, before, after usage, took time.Duration) {
	mode := "workers"
	if d == engine.Inline {
		mode = "inline"
	}
	var injected, shaken int64
	var parts []string
	for f := delay; f < faults; f++ {
		n := r.injected[f].Load()
		injected += n
		parts = append(parts, fmt.Sprintf("%s %d", faultNames[f], n))
	}
	for f := range datagramFaults {
		n := r.packets[f].Load()
		shaken += n
		parts = append(parts, fmt.Sprintf("datagrams %s %d", datagramFaultNames[f], n))
	}
	var visits int64
	var kinds []string
	for _, name := range slices.Sorted(maps.Keys(r.hostile)) {
		n := r.hostile[name].Load()
		visits += n
		kinds = append(kinds, fmt.Sprintf("%s %d", name, n))
	}
	_, bound := r.heapBound()
	r.t.Logf("faults: %s", strings.Join(parts, ", "))
	r.t.Logf("hostile visits: %s; half-open handshakes %d", strings.Join(kinds, ", "), r.halfOpened.Load())
	r.t.Logf("sessions: honest %d, unlucky %d, ended in their dial %d; cycles %d; OnOpen %d, OnClose %d", r.honest.Load(),
		r.unlucky.Load(), r.unmet.Load(), r.cycled.Load(), r.server.opened.Load(), r.server.closed.Load())
	r.t.Logf("close reasons: %s; refused: %v; panics %d; accept errors %d", r.reasons(), st.Refused, st.Panics, st.AcceptErrors)
	r.t.Logf("at rest before: %v", before)
	r.t.Logf("the most:       %v", r.memory.most)
	r.t.Logf("at rest after:  %v", after)
	r.t.Logf("heap bound: %s", bound)
	r.t.Logf("| dispatch | seed | seconds | stream faults | datagram faults | hostile visits | half-open | cycles | honest sessions | " +
		"unlucky sessions | messages | lost | duplicated | " +
		"peak heap MiB | bound MiB | peak RSS MiB | failures |")
	total, _ := r.heapBound()
	r.t.Logf("| %s | %d | %.0f | %d | %d | %d | %d | %d | %d | %d | %d | %d | %d | %.1f | %.0f | %.1f | %d |", mode, *seedFlag, took.Seconds(),
		injected, shaken, visits, r.halfOpened.Load(), r.cycled.Load(), r.honest.Load(), r.unlucky.Load(), r.carried.Load(),
		r.lost.Load(), r.again.Load(), mebi(r.memory.most.heap), mebi(total), mebi(r.memory.most.resident), r.failures.Load())
}

// reasons lists the number of ends for each close reason.
func (r *run) reasons() string {
	var parts []string
	r.server.reasons.Range(func(k, v any) bool {
		parts = append(parts, fmt.Sprintf("%s %d", k, v.(*atomic.Int64).Load()))
		return true
	})
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}
