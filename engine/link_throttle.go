package engine

import "time"

// throttleLink accounts for what a link's session received, and pauses the link
// until that would have been allowed. Nobody sleeps for it: the goroutines that
// read find the link paused, as after Session.Pause.
func (s *Session) throttleLink(messages, bytes int) {
	wait := s.throttle.spend(&s.core.engine.cfg, messages, bytes)
	if wait == 0 {
		return
	}
	t, l := s.throttle, s.link
	t.mu.Lock()
	first := l.resume == nil && !s.closing.Load()
	if first {
		l.resume = time.AfterFunc(wait, s.unthrottleLink)
	}
	t.mu.Unlock()
	if first {
		s.core.stats.throttled.Add(1)
		s.blockRead()
	}
}

// unthrottleLink ends the pause when the debt is paid, which may have grown
// since: what other goroutines had read already was still delivered.
func (s *Session) unthrottleLink() {
	wait := s.throttle.spend(&s.core.engine.cfg, 0, 0)
	t, l := s.throttle, s.link
	t.mu.Lock()
	if wait > 0 && !s.closing.Load() {
		l.resume.Reset(wait)
		t.mu.Unlock()
		return
	}
	l.resume = nil
	t.mu.Unlock()
	s.unblockRead()
}

// stopThrottle forgets the pause of a link that has ended, which may have been
// for long.
func (s *Session) stopThrottle() {
	if s.throttle == nil {
		return
	}
	s.throttle.mu.Lock()
	defer s.throttle.mu.Unlock()
	if s.link.resume != nil {
		s.link.resume.Stop()
	}
}
