//go:build !linux

package ring

import (
	"sync"
	"sync/atomic"
)

// sleeper sleeps on a channel that holds at most one wake-up.
type sleeper struct {
	once  sync.Once
	token chan struct{}
}

func (s *sleeper) channel() chan struct{} {
	s.once.Do(func() { s.token = make(chan struct{}, 1) })
	return s.token
}

// wait blocks until a wake-up comes, or returns at once if one is left from before: waking without cause is allowed.
func (s *sleeper) wait(state *atomic.Uint32) {
	token := s.channel()
	for state.Load() == parked {
		<-token
	}
}

// wake leaves a wake-up unless one is there already, in which case that one will do.
func (s *sleeper) wake(*atomic.Uint32) {
	select {
	case s.channel() <- struct{}{}:
	default:
	}
}
