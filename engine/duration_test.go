package engine_test

import (
	"io"
	"math"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

// TestLongestDurationsMeanNever sets each duration of Config to the longest that
// there is, and lets a shorter deadline of another connection pass meanwhile.
func TestLongestDurationsMeanNever(t *testing.T) {
	const short = 100 * time.Millisecond
	begin := func(t *testing.T, addr, first string) net.Conn { // and stop in the handshake
		c := dial(t, addr)
		_, _ = c.Write([]byte(first))
		return c
	}
	open := func(t *testing.T, addr string) net.Conn {
		c := begin(t, addr, "hello")
		expect(t, c, []byte("welcome"))
		return c
	}
	served := func(t *testing.T, c net.Conn, rest string) {
		_, _ = c.Write(append([]byte(rest), ping...))
		if rest != "" {
			expect(t, c, []byte("welcome"))
		}
		expect(t, c, pong)
	}
	const queued = 32 << 20
	fill := func(t *testing.T, j *journal) *engine.Session {
		s := j.session(t)
		if err := s.Send(make([]byte, queued)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	for name, c := range map[string]struct {
		cfg   engine.Config
		other string // first bytes of the connection that times out
		begin func(t *testing.T, addr string, j *journal) (goOn func())
	}{
		"IdleTimeout": {engine.Config{IdleTimeout: math.MaxInt64, HandshakeTimeout: short}, "hel",
			func(t *testing.T, addr string, _ *journal) func() {
				c := open(t, addr)
				return func() { served(t, c, "") }
			}},
		"HandshakeTimeout": {engine.Config{HandshakeTimeout: math.MaxInt64, SniffTimeout: short}, "",
			func(t *testing.T, addr string, _ *journal) func() {
				c := begin(t, addr, "hel")
				return func() { served(t, c, "lo") }
			}},
		"SniffTimeout": {engine.Config{SniffTimeout: math.MaxInt64, HandshakeTimeout: short}, "hel",
			func(t *testing.T, addr string, _ *journal) func() {
				c := begin(t, addr, "")
				return func() { served(t, c, "hello") }
			}},
		"WriteTimeout": {engine.Config{WriteTimeout: math.MaxInt64, HandshakeTimeout: short}, "hel",
			func(t *testing.T, addr string, j *journal) func() {
				c := open(t, addr)
				fill(t, j)
				return func() { _, _ = io.CopyN(io.Discard, c, queued+16); served(t, c, "") }
			}},
		"LingerTimeout": {engine.Config{LingerTimeout: math.MaxInt64, HandshakeTimeout: short}, "hel",
			func(t *testing.T, addr string, j *journal) func() {
				c := open(t, addr)
				fill(t, j).Close()
				return func() {
					if n, err := io.Copy(io.Discard, c); n != queued+16 || err != nil {
						t.Error(n, err)
					}
					_ = c.Close() // or Close would wait for ever
				}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				j := newJournal(reply)
				c.cfg.Handler, c.cfg.Dispatch, c.cfg.Cores, c.cfg.MaxMessageSize = j, d, 1, queued
				_, addr := serve(t, c.cfg, hello{engine.Packets()}, hello{engine.Packets()})
				goOn := c.begin(t, addr, j)
				other := begin(t, addr, c.other)
				if _, err := io.ReadAll(other); err != nil { // until its deadline
					t.Error(err)
				}
				_ = other.Close()
				goOn()
			})
		})
	}
}
