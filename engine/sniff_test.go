package engine_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestSniffingKeepsTheOrderOfTheProtocols has a catch-all behind a protocol whose
// first bytes come one by one: the catch-all must not get the connection while
// the one in front of it needs more bytes to tell.
func TestSniffingKeepsTheOrderOfTheProtocols(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d}, hello{engine.Packets()}, engine.Framed(framing.Line{}))
		c := dial(t, addr)
		for _, b := range []byte("hello") {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Millisecond) // so that the pieces arrive apart
		}
		_, _ = c.Write(ping)
		expect(t, c, append([]byte("welcome"), pong...))

		// Other first bytes are the catch-all's, however late they differ.
		c = dial(t, addr)
		_, _ = c.Write([]byte("hell"))
		time.Sleep(5 * time.Millisecond)
		_, _ = c.Write([]byte(" or lines\n"))
		expect(t, c, []byte("hell or lines\n"))
	})
}

// undecided is a protocol that never has enough bytes to tell.
type undecided struct{ engine.StreamProtocol }

func (undecided) Name() string              { return "undecided" }
func (undecided) Match([]byte) engine.Match { return engine.MatchMore }
func (u undecided) Connect(context.Context, net.Conn, string, engine.Limits) (engine.Codec, []byte, error) {
	panic("not dialed")
}

// TestSniffingPassesOverAProtocolThatCannotTell bounds what an undecided protocol
// holds back: 4 KiB.
func TestSniffingPassesOverAProtocolThatCannotTell(t *testing.T) {
	_, addr := serve(t, engine.Config{Handler: echo}, undecided{engine.Packets()}, engine.Framed(framing.Line{}))
	c := dial(t, addr)
	line := append(bytes.Repeat([]byte("x"), 3000), '\n')
	_, _ = c.Write(line)
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	if n, err := io.ReadFull(c, make([]byte, 1)); n > 0 || err == nil {
		t.Fatal("served before the first protocol had 4 KiB")
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, _ = c.Write(line)
	expect(t, c, append(line, line...))
}
