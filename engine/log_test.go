package engine_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// logBuffer collects the log of an engine while a test reads it.
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

// TestRefusalsAreLoggedAtDebugLevel: by the limits and by the protocols, with the
// peer, and a flood of them only in part.
func TestRefusalsAreLoggedAtDebugLevel(t *testing.T) {
	var log logBuffer
	e, addr := serve(t, engine.Config{Handler: echo, MaxSessions: 1, Logger: log.logger(slog.LevelDebug)})
	c := dial(t, addr)
	_, _ = c.Write(ping)
	expect(t, c, pong)
	refused := dial(t, addr)
	waitFor(t, "the refusal", func() bool { return strings.Contains(log.String(), "connection refused") })
	for _, want := range []string{"level=DEBUG", "MaxSessions", "remote=" + refused.LocalAddr().String(), "listener=" + addr} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is missing: %s", want, log.String())
		}
	}
	const flood = 200
	for i := range flood {
		dial(t, addr)
		waitFor(t, "the count", func() bool { return e.Stats().Refused["max_sessions"] == uint64(i+2) })
	}
	if n := strings.Count(log.String(), "connection refused"); n > flood/2 {
		t.Errorf("%d lines", n)
	}
	time.Sleep(200 * time.Millisecond)
	dial(t, addr)
	waitFor(t, "the count of those that weren't logged", func() bool { return strings.Contains(log.String(), "suppressed=") })

	_, addr = serve(t, engine.Config{Handler: echo, Logger: log.logger(slog.LevelDebug)}, hello{engine.Packets()}, engine.Packets())
	_, _ = dial(t, addr).Write([]byte("nonsense"))
	waitFor(t, "the refusal", func() bool { return strings.Contains(log.String(), "no protocol of this listener") })

	var quiet logBuffer
	e, addr = serve(t, engine.Config{Handler: echo, Logger: quiet.logger(slog.LevelInfo)}, hello{engine.Packets()}, engine.Packets())
	_, _ = dial(t, addr).Write([]byte("nonsense"))
	waitFor(t, "the count", func() bool { return e.Stats().Refused["protocol_error"] == 1 })
	if quiet.String() != "" {
		t.Errorf("above debug: %s", quiet.String())
	}
}
