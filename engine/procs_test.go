package engine_test

import (
	"net"
	"runtime"
	"testing"

	"github.com/millrace/millrace/engine"
)

// TestOnlyListeningRaisesGOMAXPROCS follows GOMAXPROCS through an engine that dials,
// then listens, then closes.
func TestOnlyListeningRaisesGOMAXPROCS(t *testing.T) {
	peer, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	before := runtime.GOMAXPROCS(0)
	for name, dispatch := range map[string]engine.Dispatch{"workers": engine.Workers, "inline": engine.Inline} {
		t.Run(name, func(t *testing.T) {
			e := engine.New(engine.Config{Handler: engine.HandlerFuncs{}, Dispatch: dispatch, Cores: 2})
			defer e.Close()
			if _, err := e.Dial(t.Context(), peer.Addr().String(), engine.Packets()); err != nil {
				t.Fatal(err)
			}
			if n := runtime.GOMAXPROCS(0); n != before {
				t.Errorf("GOMAXPROCS is %d after Dial, not %d", n, before)
			}
			for range 2 { // the second listener raises it no further
				l, err := e.Listen("127.0.0.1:0", engine.Packets())
				if err != nil {
					t.Fatal(err)
				}
				s, err := e.Dial(t.Context(), l.Addr().String(), engine.Packets())
				if err != nil {
					t.Fatal(err)
				}
				s.Close()
				if n := runtime.GOMAXPROCS(0); n <= before || n > before+5 {
					t.Errorf("GOMAXPROCS is %d with a listener, %d without", n, before)
				}
			}
			_ = e.Close()
			if n := runtime.GOMAXPROCS(0); n != before {
				t.Errorf("GOMAXPROCS is %d after Close, not %d", n, before)
			}
		})
	}
}
