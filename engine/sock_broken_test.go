package engine

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestBrokenTLSIsReadOn: a write fails when much ciphertext is queued. None of it
// counts any more, so the session is read to its end.
func TestBrokenTLSIsReadOn(t *testing.T) {
	m := &model{t: t, onSwitch: ignore}
	f := newFakeSession(t, Config{Handler: m, OutboxSoftMark: 8 << 10}, Packets())
	f.run()
	c, s := f.conn, f.conn.session
	s.out.mu.Lock()
	c.tls = &tlsLayer{sock: c}
	c.tls.queueLocked(make([]byte, 100<<10))
	c.congestLocked()
	f.writeErr = unix.EPIPE
	c.kickLocked()
	if s.out.pending != 0 || s.reading.Load() != 0 {
		t.Errorf("%d bytes are pending, reasons not to read: %b", s.out.pending, s.reading.Load())
	}
	s.out.mu.Unlock()
}
