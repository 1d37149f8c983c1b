package engine_test

import (
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// longQueue is how many bytes wait for a peer that does not read.
const longQueue = 32 << 20

func beginHello(t *testing.T, addr, first string) net.Conn { // and stop in the handshake
	c := dial(t, addr)
	_, _ = c.Write([]byte(first))
	return c
}

func openHello(t *testing.T, addr string) net.Conn {
	c := beginHello(t, addr, "hello")
	expect(t, c, []byte("welcome"))
	return c
}

func stillServed(t *testing.T, c net.Conn, rest string) {
	_, _ = c.Write(append([]byte(rest), ping...))
	if rest != "" {
		expect(t, c, []byte("welcome"))
	}
	expect(t, c, pong)
}

func fillOutbox(t *testing.T, j *journal) *engine.Session {
	s := j.session(t)
	if err := s.Send(make([]byte, longQueue)); err != nil {
		t.Fatal(err)
	}
	return s
}

// shortDeadline is that of the other connection.
const shortDeadline = 100 * time.Millisecond

var longestDurations = map[string]struct {
	cfg   engine.Config
	other string // first bytes of the connection that times out
	begin func(t *testing.T, addr string, j *journal) (goOn func())
}{
	"IdleTimeout": {engine.Config{IdleTimeout: math.MaxInt64, HandshakeTimeout: shortDeadline}, "hel",
		func(t *testing.T, addr string, _ *journal) func() {
			c := openHello(t, addr)
			return func() { stillServed(t, c, "") }
		}},
	"HandshakeTimeout": {engine.Config{HandshakeTimeout: math.MaxInt64, SniffTimeout: shortDeadline}, "",
		func(t *testing.T, addr string, _ *journal) func() {
			c := beginHello(t, addr, "hel")
			return func() { stillServed(t, c, "lo") }
		}},
	"SniffTimeout": {engine.Config{SniffTimeout: math.MaxInt64, HandshakeTimeout: shortDeadline}, "hel",
		func(t *testing.T, addr string, _ *journal) func() {
			c := beginHello(t, addr, "")
			return func() { stillServed(t, c, "hello") }
		}},
	"WriteTimeout": {engine.Config{WriteTimeout: math.MaxInt64, HandshakeTimeout: shortDeadline}, "hel",
		func(t *testing.T, addr string, j *journal) func() {
			c := openHello(t, addr)
			fillOutbox(t, j)
			return func() { _, _ = io.CopyN(io.Discard, c, longQueue+16); stillServed(t, c, "") }
		}},
	"LingerTimeout": {engine.Config{LingerTimeout: math.MaxInt64, HandshakeTimeout: shortDeadline}, "hel",
		func(t *testing.T, addr string, j *journal) func() {
			c := openHello(t, addr)
			fillOutbox(t, j).Close()
			return func() {
				if n, err := io.Copy(io.Discard, c); n != longQueue+16 || err != nil {
					t.Error(n, err)
				}
				_ = c.Close() // or Close would wait for ever
			}
		}},
}

// TestLongestDurationsMeanNever sets each duration of Config to the longest that
// there is, and lets a shorter deadline of another connection pass meanwhile.
func TestLongestDurationsMeanNever(t *testing.T) {
	for name, c := range longestDurations {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				j := newJournal(reply)
				c.cfg.Handler, c.cfg.Dispatch, c.cfg.Cores, c.cfg.MaxMessageSize = j, d, 1, longQueue
				_, addr := serve(t, c.cfg, hello{engine.Packets()}, engine.Framed(framing.Line{}))
				goOn := c.begin(t, addr, j)
				other := beginHello(t, addr, c.other)
				if _, err := io.ReadAll(other); err != nil { // until its deadline
					t.Error(err)
				}
				_ = other.Close()
				goOn()
			})
		})
	}
}
