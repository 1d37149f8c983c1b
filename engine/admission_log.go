package engine

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// maxRefusalLogs is how many refused connections are logged a second, so that a
// flood of connections does not become a flood of log lines.
const maxRefusalLogs = 10

// refusalLog logs, at level debug, connections that are refused or fail before they
// are sessions.
type refusalLog struct {
	mu         sync.Mutex // guards the fields below
	bucket     tokenBucket
	suppressed int // not logged since the last line
}

// log logs a connection; l is nil if this side dialed, remote invalid if it is unknown.
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
