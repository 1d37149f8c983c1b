package engine_test

import (
	"context"
	"crypto/tls"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestHazard16ShutdownHandlesWhatTLSHolds: a TLS record holds more messages than the
// read buffer, and the first pauses the session. Shutdown waits for all of them.
func TestHazard16ShutdownHandlesWhatTLSHolds(t *testing.T) {
	const n = 100
	var handled atomic.Int32
	paused := make(chan *engine.Session, 1)
	e, addr := serve(t, engine.Config{
		Dispatch: engine.Inline, Cores: 1, ReadBufferSize: 4 << 10,
		Handler: engine.HandlerFunc(func(s *engine.Session, _ *framing.Message) {
			if handled.Add(1) == 1 {
				s.Pause()
				paused <- s
			}
		}),
	}, overTLS(), engine.Packets())
	cfg := clientTLS(tls.VersionTLS13)
	cfg.DynamicRecordSizingDisabled = true // one record
	c := dialTLS(t, addr, cfg)
	var b []byte
	for range n {
		b = append(b, packet(&framing.Message{Payload: make([]byte, 130)})...)
	}
	_, _ = c.Write(b)
	s := <-paused
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- e.Shutdown(ctx) }()
	time.Sleep(100 * time.Millisecond) // the loop has seen it, and waits for Resume
	s.Resume()
	time.Sleep(100 * time.Millisecond)
	_ = c.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := handled.Load(); got != n {
		t.Errorf("%d of %d messages were handled", got, n)
	}
}
