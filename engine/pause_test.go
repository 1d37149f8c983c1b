package engine_test

import (
	"bytes"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestResumeWithoutPauseDoesNothing: no later Pause loses its effect, a full ring
// doesn't stop the session for good, and the misuse is logged once.
func TestResumeWithoutPauseDoesNothing(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		const n = 2000
		var log logBuffer
		var handled atomic.Int64
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			if handled.Add(1)%50 == 0 {
				time.Sleep(time.Millisecond) // the ring fills up
			}
			_ = s.Reply(m, m.Payload)
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1, RingSize: 64 << 10, Logger: log.logger(slog.LevelInfo)})
		c := dial(t, addr)
		s := j.session(t)
		for range 3 {
			s.Resume()
		}
		if got := log.String(); strings.Count(got, "Resume without Pause") != 1 || !strings.Contains(got, "level=WARN") || !strings.Contains(got, "session=") {
			t.Errorf("logged %q", got)
		}
		s.Pause()
		_, _ = c.Write(ping)
		time.Sleep(50 * time.Millisecond)
		if handled.Load() > 0 {
			t.Error("a paused session was read")
		}
		s.Resume()
		expect(t, c, pong)

		big := packet(&framing.Message{Type: framing.Request, ID: 1, Payload: make([]byte, 1000)})
		go func() { _, _ = c.Write(bytes.Repeat(big, n)) }()
		got := make([]byte, n*len(big))
		for at := 0; at < len(got); {
			k, err := c.Read(got[at:])
			if err != nil {
				t.Fatalf("after %d of %d replies: %v", at/len(big), n, err)
			}
			at += k
		}
	})
}

// TestResumeLeavesTheOutboxsOwnBackpressureAlone: a peer that doesn't collect its
// replies isn't read, however often the application resumes.
func TestResumeLeavesTheOutboxsOwnBackpressureAlone(t *testing.T) {
	const messages = 2000 // of 10 kB: more than sockets and outbox hold
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		var handled atomic.Int64
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			handled.Add(1)
			_ = s.Reply(m, m.Payload)
			s.Resume()
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1, RingSize: 64 << 10,
			OutboxSoftMark: 64 << 10, OutboxLimit: 1 << 20})
		c := dial(t, addr)
		big := packet(&framing.Message{Type: framing.Request, ID: 1, Payload: make([]byte, 10_000)})
		go func() { _, _ = c.Write(bytes.Repeat(big, messages)) }()
		before := int64(-1)
		for now := handled.Load(); now != before || now == 0; now = handled.Load() {
			before = now
			time.Sleep(100 * time.Millisecond)
		}
		if n := handled.Load(); n == messages {
			t.Error("everything was read")
		}
		select {
		case err := <-j.reasons:
			t.Error(err)
		default:
		}
		got := make([]byte, messages*len(big))
		for at := 0; at < len(got); {
			k, err := c.Read(got[at:])
			if err != nil {
				t.Fatalf("after %d of %d bytes: %v", at, len(got), err)
			}
			at += k
		}
	})
}
