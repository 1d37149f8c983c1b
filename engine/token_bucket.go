package engine

import "time"

// tokenBucket allows rate units a second on average, and a burst of one second's units.
// The zero bucket is full.
type tokenBucket struct {
	level float64 // units available; below 0 the bucket is in debt
	last  time.Time
}

func (b *tokenBucket) refill(now time.Time, rate float64) {
	if b.last.IsZero() {
		b.level = rate
	} else {
		b.level = min(b.level+now.Sub(b.last).Seconds()*rate, rate)
	}
	b.last = now
}

// take takes n units if they are available, and reports whether they were.
func (b *tokenBucket) take(now time.Time, n, rate float64) bool {
	b.refill(now, rate)
	if b.level < n {
		return false
	}
	b.level -= n
	return true
}

// spend takes n units that were used already, and returns how long it takes until the
// bucket is out of debt.
func (b *tokenBucket) spend(now time.Time, n, rate float64) time.Duration {
	b.refill(now, rate)
	b.level -= n
	if b.level >= 0 {
		return 0
	}
	return time.Duration(-b.level / rate * float64(time.Second))
}
