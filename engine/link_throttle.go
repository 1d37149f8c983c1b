package engine

import "time"

// throttle accounts for the messages that a link's session received, and pauses the
// link until the rates would have allowed them. No goroutine sleeps for it: the link's
// readers find it paused, as after Session.Pause.
func (c *linkConn) throttle(messages, bytes int) {
	s, t := c.session, c.session.rates()
	wait := t.spend(s.out.limits, messages, bytes)
	if wait == 0 {
		return
	}
	t.mu.Lock()
	first := c.throttled == nil && s.closing.Load() == closingNot
	if first {
		c.throttled = time.AfterFunc(wait, c.unthrottle)
	}
	t.mu.Unlock()
	if first {
		s.core.stats.throttled.Add(1)
		s.blockReading(readThrottled)
	}
}

// unthrottle ends the pause when the token buckets are out of debt. The debt may have
// grown since: messages that other goroutines had read already were still delivered.
func (c *linkConn) unthrottle() {
	s, t := c.session, c.session.rates()
	wait := t.spend(s.out.limits, 0, 0)
	t.mu.Lock()
	if wait > 0 && s.closing.Load() == closingNot {
		c.throttled.Reset(wait)
		t.mu.Unlock()
		return
	}
	c.throttled = nil
	t.mu.Unlock()
	s.unblockReading(readThrottled)
}

// stopThrottle stops the timer of a link that has ended: its pause may be long.
func (c *linkConn) stopThrottle() {
	t := c.session.rates()
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.throttled != nil {
		c.throttled.Stop()
	}
}
