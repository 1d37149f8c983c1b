package engine

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// maxRefusalLogs is how many refused connections are logged a second, so that a
// flood of them isn't one of log lines.
const maxRefusalLogs = 10

// refusalLog logs connections that are refused or fail before they are sessions,
// for those who look why, at level debug.
type refusalLog struct {
	mu         sync.Mutex // guards what follows
	bucket     tokenBucket
	suppressed int // since the last one that was logged
}

// log logs one; l is nil where this side dialed, remote invalid where it isn't known.
func (r *refusalLog) log(logger *slog.Logger, reason error, remote netip.AddrPort, l *Listener) {
	if !logger.Enabled(context.Background(), slog.LevelDebug) {
		return
	}
	r.mu.Lock()
	if !r.bucket.take(time.Now(), 1, maxRefusalLogs) {
		r.suppressed++
		r.mu.Unlock()
		return
	}
	suppressed := r.suppressed
	r.suppressed = 0
	r.mu.Unlock()
	args := []any{"reason", reason}
	if remote.IsValid() {
		args = append(args, "remote", remote.String())
	}
	if l != nil {
		args = append(args, "listener", l.String())
	}
	if suppressed > 0 {
		args = append(args, "suppressed", suppressed)
	}
	logger.Debug("connection refused", args...)
}
