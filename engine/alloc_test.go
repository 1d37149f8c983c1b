//go:build !race

package engine_test

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

// TestHotPathDoesNotAllocate holds goal 8 of the engine: receiving, dispatching and
// replying allocate nothing a message. (The race detector's build allocates on its own account.)
func TestHotPathDoesNotAllocate(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d})
		c := dial(t, addr)
		const messages = 1000
		requests, replies := bytes.Repeat(ping, messages), make([]byte, messages*len(pong))
		round := func() {
			_, _ = c.Write(requests)
			if _, err := io.ReadFull(c, replies); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			round() // fill the pools
		}
		// The pools may be emptied by a collection meanwhile: a few allocations a
		// round of a thousand messages come from there.
		if n := testing.AllocsPerRun(50, round); n > messages/100 {
			t.Errorf("%v allocations for %d messages", n, messages)
		}
	})
}

func BenchmarkEcho(b *testing.B) {
	for name, d := range dispatches {
		b.Run(name, func(b *testing.B) {
			_, addr := serve(b, engine.Config{Handler: echo, Dispatch: d})
			c := dial(b, addr)
			_ = c.SetDeadline(time.Time{})
			const window = 1000
			requests, replies := bytes.Repeat(ping, window), make([]byte, window*len(pong))
			b.ReportAllocs()
			b.SetBytes(int64(len(ping)))
			for done := 0; done < b.N; done += window {
				n := min(window, b.N-done)
				_, _ = c.Write(requests[:n*len(ping)])
				if _, err := io.ReadFull(c, replies[:n*len(pong)]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
