package engine_test

import (
	"crypto/tls"
	"io"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// dialTLSSlowly makes a TLS handshake whose first byte comes alone, and the rest
// when pause returns.
func dialTLSSlowly(t *testing.T, e *engine.Engine, addr string, pause func()) (*tls.Conn, error) {
	t.Helper()
	raw := dial(t, addr)
	before := e.Stats().BytesIn
	c := tls.Client(&firstByteAlone{secondWrite{Conn: raw, piece: 1, before: func() {}, after: func() {
		waitFor(t, "the first byte to be read", func() bool { return e.Stats().BytesIn == before+1 })
		pause()
	}}}, clientTLS(tls.VersionTLS13))
	return c, c.Handshake()
}

// firstByteAlone is secondWrite for the first write.
type firstByteAlone struct{ secondWrite }

func (c *firstByteAlone) Write(b []byte) (int, error) {
	if c.writes == 0 {
		c.writes = 1
	}
	return c.secondWrite.Write(b)
}

// TestHandshakeDeadlineWithoutSniffTimeout stops in the middle of the handshake after TLS:
// without a deadline for silent connections, those that have begun still have one.
func TestHandshakeDeadlineWithoutSniffTimeout(t *testing.T) {
	for name, input := range map[string]string{"whole": "hel", "split": "hel", "silent": ""} {
		t.Run(name, func(t *testing.T) {
			e, addr := serve(t, engine.Config{Handler: echo, HandshakeTimeout: 500 * time.Millisecond, SniffTimeout: -1},
				overTLS(), hello{engine.Packets()}, engine.Framed(framing.Line{}))
			var c *tls.Conn
			if name == "split" {
				c, _ = dialTLSSlowly(t, e, addr, func() {})
			} else {
				c = dialTLS(t, addr, clientTLS(tls.VersionTLS13))
			}
			_, _ = c.Write([]byte(input))
			waitFor(t, "the deadline", func() bool { return e.Stats().Refused["handshake_timeout"] == 1 })
		})
	}
}

// TestHandshakeDeadlineSpansItsLayers is slow in each layer, but not too slow for
// one that had the whole time for itself.
func TestHandshakeDeadlineSpansItsLayers(t *testing.T) {
	const limit = time.Second
	slow := func() { time.Sleep(3 * limit / 4) }
	for name, protocols := range map[string][]engine.Protocol{
		"one protocol":      {overTLS(), hello{engine.Packets()}},
		"several protocols": {overTLS(), hello{engine.Packets()}, engine.Packets()},
	} {
		t.Run(name, func(t *testing.T) {
			j := newJournal(reply)
			e, addr := serve(t, engine.Config{Handler: j, HandshakeTimeout: limit}, protocols...)
			c, err := dialTLSSlowly(t, e, addr, slow)
			if err == nil {
				_, _ = c.Write([]byte("hel"))
				slow()
				_, _ = c.Write([]byte("lo"))
				_, err = io.ReadFull(c, make([]byte, len("welcome")))
			}
			if err == nil || len(j.opened) > 0 {
				t.Error("the session opened")
			}
		})
	}
}

// TestSniffTimeoutEndsWithTheFirstByteBehindTLS needs longer for its first bytes
// than a silent connection may stay silent.
func TestSniffTimeoutEndsWithTheFirstByteBehindTLS(t *testing.T) {
	const silence = time.Second
	e, addr := serve(t, engine.Config{Handler: echo, SniffTimeout: silence}, overTLS(), hello{engine.Packets()}, engine.Packets())
	c := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
	before := e.Stats().BytesIn
	_, _ = c.Write([]byte("hel"))
	waitFor(t, "the first bytes", func() bool { return e.Stats().BytesIn > before })
	time.Sleep(3 * silence / 2)
	_, _ = c.Write([]byte("lo"))
	expect(t, c, []byte("welcome"))
}
