package engine_test

import (
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestLargeMessagesThatWaitKeepTheirOrder fills a core's table of large messages,
// so that one waits outside, and sends more.
func TestLargeMessagesThatWaitKeepTheirOrder(t *testing.T) {
	gate := make(chan struct{})
	var ids []uint32
	done := make(chan struct{})
	const n = 8
	h := engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) {
		<-gate
		if ids = append(ids, m.ID); m.ID == n-1 {
			close(done)
		}
	})
	e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10, MaxMessageSize: 64 << 10})
	c := dial(t, addr)
	for i := range n {
		size := 60_000
		if i%2 == 1 {
			size = 10
		}
		_, _ = c.Write(packet(&framing.Message{ID: uint32(i), Payload: make([]byte, size)}))
		time.Sleep(5 * time.Millisecond) // each in a read of its own, if it is read
	}
	if stalls := e.Stats().Cores[0].Stalls; stalls > 100 {
		t.Errorf("stalled %d times while nothing moved: the loop doesn't sleep", stalls)
	}
	close(gate)
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
	_ = e.Close()
	if len(ids) != n {
		t.Fatalf("messages %v arrived", ids)
	}
	for i, id := range ids {
		if int(id) != i {
			t.Fatalf("messages arrived as %v", ids)
		}
	}
}
