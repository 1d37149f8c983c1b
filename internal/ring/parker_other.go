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

// wait blocks until the state is no longer parked. A wake-up left from an earlier sleep does no
// harm.
func (s *sleeper) wait(state *atomic.Uint32) {
	token := s.channel()
	for state.Load() == parked {
		<-token
	}
}

// wake puts a wake-up into the channel, unless it already holds one.
func (s *sleeper) wake(*atomic.Uint32) {
	select {
	case s.channel() <- struct{}{}:
	default:
	}
}
