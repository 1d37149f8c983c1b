package engine_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestRetryableAfterDial classifies the errors of Dial: a server that is not there may be
// there later; a context that has ended stays so.
func TestRetryableAfterDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	_ = l.Close()
	e := engine.New(engine.Config{Handler: echo, Cores: 1})
	defer func() { _ = e.Close() }()
	if _, err := e.Dial(t.Context(), nobody, engine.Packets()); err == nil || !engine.Retryable(err) {
		t.Errorf("nobody listens: %v is not retryable", err)
	}
	if _, err := e.Dial(t.Context(), "unix:"+t.TempDir()+"/none", engine.Packets()); err == nil || !engine.Retryable(err) {
		t.Errorf("no Unix socket: %v is not retryable", err)
	}
	if _, err := e.Dial(t.Context(), "127.0.0.1:no", engine.Packets()); err == nil || engine.Retryable(err) {
		t.Errorf("no port: %v is retryable", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for _, ctx := range []context.Context{ended, late} {
		if _, err := e.Dial(ctx, nobody, engine.Packets()); err == nil || engine.Retryable(err) {
			t.Errorf("%v: %v is retryable", ctx.Err(), err)
		}
	}
}

// TestDialedSessionsDoNotCountForAnAddress fills an address with accepted sessions, and
// dials it.
func TestDialedSessionsDoNotCountForAnAddress(t *testing.T) {
	j := newJournal(func(*engine.Session, *framing.Message) {})
	e, addr := serve(t, engine.Config{Handler: j, MaxSessionsPerAddr: 2, AcceptRate: 2})
	dial(t, addr)
	dial(t, addr)
	_, _ = j.session(t), j.session(t)
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = backend.Close() }()
	for range 3 {
		s, err := e.Dial(t.Context(), backend.Addr().String(), engine.Packets())
		if err != nil {
			t.Fatal(err)
		}
		_ = j.session(t)
		s.Abort(nil)
		_ = j.reason(t)
	}
	refused(t, addr) // the dialed sessions have not made space for another
}
