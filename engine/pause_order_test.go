package engine_test

import (
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// TestPauseKeepsTheOrder pauses in every callback, and resumes on another goroutine
// at the same time: whether to go on is decided once for each message.
func TestPauseKeepsTheOrder(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		const messages = 30_000
		var next atomic.Uint32
		done := make(chan struct{})
		_, addr := serve(t, engine.Config{Dispatch: d, Cores: 1, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
			if want := next.Load(); m.ID != want {
				t.Errorf("message %d, want %d", m.ID, want)
			}
			s.Pause()
			go s.Resume()
			if next.Add(1) == messages {
				close(done)
			}
		})})
		c := dial(t, addr)
		var b []byte
		for i := range uint32(messages) {
			b = append(b, packet(&framing.Message{ID: i, Payload: []byte("payload")})...)
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		testkit.Receive(t, done, "the last message")
	})
}
