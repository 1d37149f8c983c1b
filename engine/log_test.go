package engine_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// logBuffer collects what an engine logs while a test reads it.
type logBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// logger returns a logger that writes to l from level on.
func (l *logBuffer) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}

// TestPanicsAreVisibleByDefault: without a Logger they go to slog's default one.
func TestPanicsAreVisibleByDefault(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		var log logBuffer
		before := slog.Default()
		slog.SetDefault(log.logger(slog.LevelInfo))
		defer slog.SetDefault(before)
		j := newJournal(func(*engine.Session, *framing.Message) { panic("boom") })
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d})
		c := dial(t, addr)
		_, _ = c.Write(ping)
		j.reason(t)
		for _, want := range []string{"level=ERROR", "handler panicked", "panic=boom", "log_test.go"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("%q is missing: %s", want, log.String())
			}
		}
	})
}
