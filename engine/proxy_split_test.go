package engine_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// seenChecker is a Decode that checks the engine's count of the bytes that the codec has
// examined before.
func seenChecker(t *testing.T) decodeFunc {
	var left []byte // of the last call, if it asked for more
	return func(next engine.Codec, ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
		if seen > len(left) || !bytes.HasPrefix(b, left[:min(seen, len(left))]) {
			t.Errorf("Decode(%q) is told that it has seen %d bytes; it left %q", b, seen, left)
		}
		n, ok, err := next.Decode(ctl, b, seen, m)
		left = nil
		if n == 0 {
			left = slices.Clone(b)
		}
		return n, ok, err
	}
}

// eachCut writes whole to a fresh connection in two pieces, which are read apart,
// for each cut, and calls check with the connection.
func eachCut(t *testing.T, cfg engine.Config, protocols func() []engine.Protocol, whole []byte, check func(cut int, e *engine.Engine)) {
	for cut := 1; cut < len(whole); cut++ {
		e, addr := serve(t, cfg, protocols()...)
		c := dial(t, addr)
		_, _ = c.Write(whole[:cut])
		waitFor(t, "the first piece to be read", func() bool { return e.Stats().BytesIn == uint64(cut) })
		_, _ = c.Write(whole[cut:])
		check(cut, e)
		_ = c.Close()
		_ = e.Close()
	}
}

// TestHazard29NothingIsSeenBehindALayer splits the bytes before a session's messages, a
// PROXY header or those that select its protocol, at every byte.
func TestHazard29NothingIsSeenBehindALayer(t *testing.T) {
	lines := []byte("one\ntwo\nthree\n")
	patient := func(first []byte) engine.Match { // it matches nothing, and needs ten bytes to decide
		if len(first) < 10 {
			return engine.MatchMore
		}
		return engine.MatchNo
	}
	for name, c := range map[string]struct {
		header []byte
		others []engine.Protocol
	}{
		"version 1":            {proxyV1Line, []engine.Protocol{trustLoopback}},
		"version 2":            {proxyV2Local, []engine.Protocol{trustLoopback}},
		"version 1, sniffing":  {proxyV1Line, []engine.Protocol{trustLoopback, &scripted{match: patient}}},
		"sniffing":             {nil, []engine.Protocol{&scripted{match: patient}}},
		"a handshake in front": {[]byte("hello"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				got := make(chan string, 10)
				protocols := func() []engine.Protocol {
					p := &scripted{codec: scriptedCodec{Codec: engine.Framed(framing.Line{}).Accept(nil), decode: seenChecker(t)}}
					p.match = func(first []byte) engine.Match {
						if len(first) < 10 {
							return engine.MatchMore
						}
						return engine.MatchYes
					}
					if c.others == nil {
						p.codec.greeting = greets("hello", func(*engine.Control) {})
					}
					return append(slices.Clone(c.others), p)
				}
				cfg := engine.Config{Handler: engine.HandlerFunc(collect(got)), Dispatch: d, Cores: 1}
				eachCut(t, cfg, protocols, slices.Concat(c.header, lines), func(cut int, _ *engine.Engine) {
					for _, want := range []string{"one", "two", "three"} {
						if m := <-got; m != want {
							t.Fatalf("cut at %d: %q instead of %q", cut, m, want)
						}
					}
				})
			})
		})
	}
}
