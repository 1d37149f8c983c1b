package engine

import (
	"sync"
	"time"
)

// throttle holds a session to Config.MessageRate and Config.ByteRate: what it
// sent too much is read no sooner than it would have been allowed. Sessions
// have one only where a rate is configured.
type throttle struct {
	mu       sync.Mutex // several streams of a link share it
	messages tokenBucket
	bytes    tokenBucket
}

func newThrottle(cfg *Config) *throttle {
	if cfg.MessageRate == 0 && cfg.ByteRate == 0 {
		return nil
	}
	return new(throttle)
}

// spend accounts for what was received, and returns how long to read nothing.
func (t *throttle) spend(cfg *Config, messages, bytes int) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if cfg.MessageRate > 0 {
		wait = t.messages.spend(now, float64(messages), float64(cfg.MessageRate))
	}
	if cfg.ByteRate > 0 {
		wait = max(wait, t.bytes.spend(now, float64(bytes), float64(cfg.ByteRate)))
	}
	return wait
}

// throttleInput stops reading for as long as the rates ask for. On the loop.
func (s *Session) throttleInput(messages, bytes int) {
	wait := s.throttle.spend(&s.engine.cfg, messages, bytes)
	if wait == 0 || s.resumeAt != 0 {
		return
	}
	s.core.stats.throttled.Add(1)
	s.blockRead()
	s.resumeAt = s.core.deadline(wait)
	s.arm()
}
