package engine_test

import (
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestPauseEndsWhileItIsNoticed: another goroutine resumes a session at the moment
// when the loop stops for the pause. The messages keep their order.
func TestPauseEndsWhileItIsNoticed(t *testing.T) {
	const n = 50_000
	var next atomic.Uint32
	var pauses atomic.Int32
	var paused atomic.Pointer[engine.Session]
	stop := make(chan struct{})
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if pauses.Load() > 0 {
				pauses.Add(-1)
				paused.Load().Resume()
			}
		}
	}()
	_, addr := serve(t, engine.Config{Dispatch: engine.Inline, Cores: 1, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		if want := next.Load(); m.ID != want {
			t.Errorf("message %d, want %d", m.ID, want)
		}
		next.Store(m.ID + 1)
		s.Pause()
		paused.Store(s)
		pauses.Add(1)
	})})
	c := dial(t, addr)
	var b []byte
	for i := range uint32(n) {
		b = append(b, packet(&framing.Message{ID: i})...)
	}
	_, _ = c.Write(b)
	waitFor(t, "every message", func() bool { return next.Load() >= n || t.Failed() })
	_ = c.Close()
	close(stop)
}
