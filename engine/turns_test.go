package engine_test

import (
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestSenderHasOneTurnAtATime floods one connection in small pieces, so that
// events come again and again, while another has input for many turns: the first
// must not read more often than the second.
func TestSenderHasOneTurnAtATime(t *testing.T) {
	const buffer, turns, rounds = 4 << 10, 60, 10
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		for range rounds {
			var flooded, floods atomic.Int64
			var last, most int64 // bytes
			held, gate := make(chan struct{}), make(chan struct{})
			flood := &scripted{codec: scriptedCodec{decode: func(_ engine.Codec, _ *engine.Control, b []byte, _ int, _ *framing.Message) (int, bool, error) {
				flooded.Add(int64(len(b)))
				floods.Add(1)
				return len(b), false, nil
			}}}
			started := false
			steady := &scripted{codec: scriptedCodec{decode: func(next engine.Codec, ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
				if !started {
					started = true
					close(held)
					<-gate
				} else if n := flooded.Load() - last; n > most {
					most = n
				}
				last = flooded.Load()
				return next.Decode(ctl, b, seen, m)
			}}}
			cfg := engine.Config{Handler: engine.HandlerFunc(func(*engine.Session, *framing.Message) {}), Dispatch: d, Cores: 1, ReadBufferSize: buffer}
			e, addr := serve(t, cfg, steady)
			l, err := e.Listen("127.0.0.1:0", flood)
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, l.Addr().String())
			go func() {
				piece := make([]byte, buffer)
				for {
					if _, err := c.Write(piece); err != nil {
						return
					}
				}
			}()
			waitFor(t, "the flood", func() bool { return floods.Load() > 1000 })
			other := dial(t, addr)
			_, _ = other.Write(numbered(turns, buffer-200))
			<-held
			close(gate)
			waitFor(t, "the turns", func() bool { return e.Stats().MessagesIn == turns })
			_ = e.Close()
			if most > 3*buffer {
				t.Fatalf("one connection read %d bytes in a turn of another", most)
			}
		}
	})
}
