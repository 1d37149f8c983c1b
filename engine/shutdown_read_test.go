package engine_test

import (
	"context"
	"crypto/tls"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// shutDown begins to shut e down, and returns when its loop, the only one, has
// heard of it; wait returns the end.
func shutDown(t *testing.T, e *engine.Engine, addr string) (wait func()) {
	t.Helper()
	before := e.Stats().Accepted
	witness := dial(t, addr)
	_, _ = witness.Write([]byte("hel")) // a session in its handshake has no messages to wait for
	waitFor(t, "the witness", func() bool { return e.Stats().Accepted > before })
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	go func() { done <- e.Shutdown(ctx) }()
	if _, err := io.ReadAll(witness); err != nil {
		t.Error(err)
	}
	_ = witness.Close()
	return func() {
		t.Helper()
		defer cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestHazard16ShutdownHandlesWhatTLSHasRead shuts down while a paused session's
// record is decrypted in part: it is larger than the read buffer.
func TestHazard16ShutdownHandlesWhatTLSHasRead(t *testing.T) {
	var handled atomic.Int64
	paused := make(chan *engine.Session, 1)
	e, addr := serve(t, engine.Config{Dispatch: engine.Inline, Cores: 1, ReadBufferSize: 4 << 10,
		Handler: engine.HandlerFunc(func(s *engine.Session, _ *framing.Message) {
			if handled.Add(1) == 1 {
				s.Pause()
				paused <- s
			}
		})}, overTLS(), hello{engine.Packets()}, engine.Packets())
	cfg := clientTLS(tls.VersionTLS13)
	cfg.DynamicRecordSizingDisabled = true
	c := dialTLS(t, addr, cfg)
	const n = 100
	_, _ = c.Write(numbered(n, 100)) // one record
	s := <-paused
	wait := shutDown(t, e, addr)
	s.Resume()
	if _, err := io.ReadAll(c); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	wait()
	if handled.Load() != n {
		t.Errorf("%d of %d messages were handled", handled.Load(), n)
	}
}

// TestHazard16ShutdownHandlesWhatAPausedSessionHasRead shuts down while a session
// is paused and has more in memory than the ring takes.
func TestHazard16ShutdownHandlesWhatAPausedSessionHasRead(t *testing.T) {
	const size = 1000
	for name, secure := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			var handled atomic.Int64
			gate := make(chan struct{})
			opened := make(chan *engine.Session, 10)
			var paused atomic.Pointer[engine.Session]
			h := engine.HandlerFuncs{Open: func(s *engine.Session) { opened <- s }, Message: func(s *engine.Session, _ *framing.Message) {
				if s != paused.Load() {
					<-gate
				}
				handled.Add(1)
			}}
			e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10, ReadBufferSize: 4 << 10},
				overTLS(), hello{engine.Packets()}, engine.Packets())
			var c io.ReadWriteCloser
			if !secure {
				c = dial(t, addr)
			} else {
				cfg := clientTLS(tls.VersionTLS13)
				cfg.DynamicRecordSizingDisabled = true
				c = dialTLS(t, addr, cfg)
			}
			_, _ = c.Write(numbered(1, size)[:1])
			s := <-opened
			paused.Store(s)
			occupy(t, e, addr)
			<-opened
			go func() { _, _ = c.Write(numbered(1000, size)[1:]) }()
			waitFor(t, "a stall", func() bool { return e.Stats().Cores[0].Stalls > 0 })
			s.Pause()
			wait := shutDown(t, e, addr)
			read := int64(e.Stats().BytesIn) / (framing.PacketHeaderSize + size)
			if secure {
				read -= 20 // the handshake, and a record that is not complete
			}
			close(gate)
			waitFor(t, "the ring to be empty", func() bool { return e.Stats().Cores[0].RingDepth == 0 })
			s.Resume()
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
			wait()
			if handled.Load() < read {
				t.Errorf("%d of %d messages that were read were handled", handled.Load(), read)
			}
		})
	}
}
