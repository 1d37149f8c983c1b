package bench

import "container/heap"

// timers are a loop's sessions that have something to do at a certain time,
// the earliest first.
type timers []*session

func (t timers) Len() int           { return len(t) }
func (t timers) Less(i, j int) bool { return t[i].wakeAt() < t[j].wakeAt() }
func (t timers) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].timer, t[j].timer = i, j
}

// Push is for package heap.
func (t *timers) Push(x any) {
	s := x.(*session)
	s.timer = len(*t)
	*t = append(*t, s)
}

// Pop is for package heap.
func (t *timers) Pop() any {
	last := len(*t) - 1
	s := (*t)[last]
	s.timer = -1
	*t = (*t)[:last]
	return s
}

// update sorts s in again: after its next time changed, or when it starts or stops
// waiting for one.
func (t *timers) update(s *session) {
	waits := s.failed == nil && !s.ending && !s.started
	if s.schedule != nil {
		waits = s.failed == nil && !s.ending && s.schedule.room(s.answered)
	}
	switch {
	case waits && s.timer < 0:
		heap.Push(t, s)
	case waits:
		heap.Fix(t, s.timer)
	case s.timer >= 0:
		heap.Remove(t, s.timer)
	}
}

// wakeAt is the time at which s acts even if it receives nothing from the server.
func (s *session) wakeAt() int64 {
	if s.schedule != nil {
		return int64(s.schedule.next)
	}
	return s.startAt
}
