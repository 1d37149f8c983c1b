package bench

import (
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
)

const maxLatency = 60 * time.Second // that the histogram holds; longer counts as that

// A tally has the counters of a loop, or of the streams of one QUIC connection.
// Its histogram belongs to them until they have returned.
type tally struct {
	latency *hdr.Histogram
	replies atomic.Int64 // verified, published for the load
	bytes   atomic.Int64 // of these replies, with their frames
}

func newLatency() *hdr.Histogram { return hdr.New(1, maxLatency.Nanoseconds(), 3) }

// record takes the latencies of the replies that s got since it had `before`.
// An open loop's request counts if it was due in the measured time, regardless of
// the time of its reply.
func (t *tally) record(l *load, s *session, before int64) {
	switch {
	case s.schedule != nil:
		now, from, to := l.now(), l.from.Load(), l.to.Load()
		for n := before; n < s.answered; n++ {
			if at := s.schedule.at(n); at >= from && at < to {
				t.add(now-at, 1)
			}
		}
	case s.sampled != 0 && s.answered >= s.sampled:
		s.sampled = 0
		if now := l.now(); now >= l.from.Load() && now < l.to.Load() {
			t.add(now-s.sampledAt, 1)
		}
	}
}

func (t *tally) add(latency, n int64) {
	// It can't fail: the value is within the histogram's bounds.
	_ = t.latency.RecordValues(min(max(latency, 1), maxLatency.Nanoseconds()), n)
}

// addUnsent counts the requests that were due and never sent. The latency of each is
// its waiting time until the end, which is the minimum possible. Steps of a thousandth
// of the wait are fine enough.
func (t *tally) addUnsent(s *session, from, end int64) int64 {
	if s.schedule == nil {
		return 0
	}
	s.schedule.next = max(s.schedule.next, float64(from))
	n := s.schedule.unsent(end)
	first := int64(s.schedule.next)
	steps := min(n, 1000)
	for i := range steps {
		count := n*(i+1)/steps - n*i/steps
		t.add(end-first-(end-first)*i/steps, count)
	}
	return n
}
