package bench

import (
	"math/rand/v2"
	"time"
)

// A schedule is the intended times of an open loop's requests on one session.
// They don't depend on the server: a request that can't be sent when it is due keeps
// its time and waits. Only requests within the window are stored, so a slow server
// costs no memory. Times are nanoseconds of the load's clock.
type schedule struct {
	next     float64    // of the first request not released
	interval float64    // mean time between two
	random   *rand.Rand // nil for even spaces
	intended []int64    // of the requests in flight, by number modulo the window
	released int64      // requests that may be sent
}

// newSchedule returns the schedule of session i of n. Evenly spaced sessions take turns.
func newSchedule(cfg *Config, i, n int, from time.Duration) *schedule {
	s := &schedule{
		interval: float64(n) * float64(time.Second) / cfg.Rate,
		intended: make([]int64, cfg.InFlight),
	}
	if cfg.Poisson {
		s.random = rand.New(rand.NewPCG(uint64(i), 0))
		s.next = float64(from) + s.space()
	} else {
		s.next = float64(from) + s.interval*float64(i)/float64(n)
	}
	return s
}

func (s *schedule) space() float64 {
	if s.random != nil {
		return s.interval * s.random.ExpFloat64()
	}
	return s.interval
}

// release releases the requests due at now, as far as the window has space.
func (s *schedule) release(now, answered int64) {
	for s.room(answered) && s.next <= float64(now) {
		s.intended[s.released%int64(len(s.intended))] = int64(s.next)
		s.released++
		s.next += s.space()
	}
}

// room reports whether the window has space.
func (s *schedule) room(answered int64) bool {
	return s.released-answered < int64(len(s.intended))
}

// at is the intended time of request n, which is in flight.
func (s *schedule) at(n int64) int64 { return s.intended[n%int64(len(s.intended))] }

// unsent is how many requests were due before end and never released.
func (s *schedule) unsent(end int64) int64 {
	if late := float64(end) - s.next; late > 0 {
		return 1 + int64(late/s.interval)
	}
	return 0
}
