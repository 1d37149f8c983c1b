package quicbridge

import (
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// TestSendAllocates checks that a reply passes its outbox without an allocation.
// The allocations of quic-go are not counted.
func TestSendAllocates(t *testing.T) {
	full := Config{}.withDefaults()
	c := &conn{config: &full, limits: &engine.Limits{MaxMessageSize: 1 << 20, OutboxSoftMark: 1 << 18, OutboxLimit: 1 << 22}}
	c.wake.L = &c.mu
	st := c.newStream(nil)
	c.first = st
	m := &framing.Message{Type: framing.Response, Payload: make([]byte, 100)}
	if n := testing.AllocsPerRun(1000, func() {
		for range 50 {
			if err := c.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		for b := st.out.Next(); len(b) > 0; b = st.out.Next() {
			st.out.Done(len(b))
			c.wrote(len(b))
		}
	}); n > 0 && !testkit.RaceEnabled {
		t.Errorf("50 replies allocate %v times", n)
	}
	if q := c.queued.Load(); q != 0 {
		t.Errorf("%d bytes are still accounted for", q)
	}
}
