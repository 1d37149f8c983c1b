package engine_test

import (
	"io"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestBlockedCallbackStopsNothingElse blocks a callback of the only core. The
// core still reads from other sessions, writes queued messages and new ones, and keeps
// deadlines.
func TestBlockedCallbackStopsNothingElse(t *testing.T) {
	const queued, size = 16, 1 << 20 // more than the sockets take
	gate := make(chan struct{})
	defer close(gate)
	j := newJournal(func(_ *engine.Session, m *framing.Message) {
		if m.ID == 1 {
			<-gate
		}
	})
	e, addr := serve(t, engine.Config{Handler: j, Cores: 1, HandshakeTimeout: 200 * time.Millisecond, OutboxLimit: 2 * queued * size},
		hello{engine.Packets()}, engine.Packets())
	slow := dial(t, addr)
	_, _ = slow.Write(packet(&framing.Message{}))
	s := j.session(t)
	for range queued {
		if err := s.Send(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = dial(t, addr).Write(packet(&framing.Message{ID: 1}))
	if takesOver {
		waitFor(t, "the reader", func() bool { return e.Stats().Cores[0].Takeovers > 0 })
	}
	before := e.Stats().BytesIn
	_, _ = dial(t, addr).Write(numbered(10, 100))
	waitFor(t, "the reading", func() bool { return e.Stats().BytesIn > before })
	if n, err := io.CopyN(io.Discard, slow, queued*(framing.PacketHeaderSize+size)); err != nil {
		t.Errorf("%d bytes of those that were queued, %v", n, err)
	}
	if err := s.Send([]byte("hi")); err != nil {
		t.Error(err)
	}
	expect(t, slow, packet(&framing.Message{ID: queued + 1, Payload: []byte("hi")}))
	late := dial(t, addr)
	_, _ = late.Write([]byte("hell"))
	if _, err := io.ReadAll(late); err != nil {
		t.Error(err) // the handshake takes too long
	}
}

// TestRepliesDoNotWaitForTheBatch has the handler of the last message wait until the peer
// has the replies to half of those that were received with it. The messages are handled in place, or
// from the ring.
func TestRepliesDoNotWaitForTheBatch(t *testing.T) {
	const count = 100
	for name, ring := range map[string]bool{"in place": false, "ring": true} {
		t.Run(name, func(t *testing.T) {
			half, gate := make(chan struct{}), make(chan struct{})
			late := func(s *engine.Session, m *framing.Message) {
				reply(s, m)
				if m.ID == count-1 {
					select {
					case <-half:
					case <-time.After(10 * time.Second):
						t.Error("half of the replies wait for the end of the batch")
					}
				}
				time.Sleep(50 * time.Microsecond)
			}
			h := engine.HandlerFunc(late)
			if ring {
				h = occupied(gate, late)
			}
			e, addr := serve(t, engine.Config{Handler: h, Cores: 1})
			if ring {
				occupy(t, e, addr)
			}
			before := e.Stats().BytesIn
			c := dial(t, addr)
			messages := numbered(count, 10)
			_, _ = c.Write(messages)
			if ring {
				waitFor(t, "the messages", func() bool { return e.Stats().BytesIn == before+uint64(len(messages)) })
				close(gate)
			}
			got := make([]byte, len(messages))
			if _, err := io.ReadFull(c, got[:len(got)/2]); err != nil {
				t.Fatal(err)
			}
			close(half)
			_, _ = io.ReadFull(c, got[len(got)/2:])
		})
	}
}
