package engine

import (
	"sync"
	"time"
)

// throttle limits a session to Config.MessageRate and ByteRate: after input above
// a rate, it is not read until the rate would have allowed that input. Sessions have one
// only if a rate is configured.
type throttle struct {
	mu       sync.Mutex // several streams of a link share it
	messages tokenBucket
	bytes    tokenBucket

	// Owned by the loop of a session that has a socket.
	fresh    int   // bytes read and not yet accounted for
	resumeAt int64 // tick at which reading resumes; 0 if it is not stopped
}

// spend accounts for received messages and bytes, and returns how long not to read.
func (t *throttle) spend(limits *Limits, messages, bytes int) (wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if limits.messageRate > 0 {
		wait = t.messages.spend(now, float64(messages), float64(limits.messageRate))
	}
	if limits.byteRate > 0 {
		wait = max(wait, t.bytes.spend(now, float64(bytes), float64(limits.byteRate)))
	}
	return wait
}

// hold accounts for received messages, and stops reading from c until the rates allow
// more. On the loop.
func (t *throttle) hold(c *socketConn, messages int) {
	s := c.session
	wait := t.spend(s.out.limits, messages, t.fresh)
	t.fresh = 0
	if wait == 0 || t.resumeAt != 0 {
		return
	}
	s.core.stats.throttled.Add(1)
	s.blockReading(readThrottled)
	t.resumeAt = s.core.deadline(wait)
	c.arm()
}
