package engine_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestSniffingKeepsTheOrderOfTheProtocols has a catch-all after a protocol whose first
// bytes come one by one: the catch-all must not get the connection while the earlier
// protocol needs more bytes to decide.
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

// undecided is a protocol that never has enough bytes to decide.
type undecided struct{ engine.StreamProtocol }

func (undecided) Name() string              { return "undecided" }
func (undecided) Match([]byte) engine.Match { return engine.MatchMore }
func (u undecided) Connect(context.Context, net.Conn, string, engine.Limits) (engine.Codec, []byte, error) {
	panic("not dialed")
}

// TestSniffingPassesOverAProtocolThatCannotTell bounds the bytes that an undecided protocol
// delays: 4 KiB.
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

// TestListenRefusesUnreachableProtocols: an error that names both.
func TestListenRefusesUnreachableProtocols(t *testing.T) {
	lines, packets := engine.Framed(framing.Line{}), engine.Packets()
	secure := engine.TLS(engine.TLSConfig{SelfSigned: true})
	trusted := engine.ProxyProtocol{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	greeting := hello{packets}
	for name, c := range map[string]struct {
		protocols []engine.Protocol
		names     []string // in the error; none if these are legal
	}{
		"packets twice":            {[]engine.Protocol{packets, packets}, []string{"protocol 1 (tcp", "protocol 2 (tcp"}},
		"two catch-alls":           {[]engine.Protocol{lines, engine.Framed(framing.Raw{})}, []string{"protocol 1", "protocol 2"}},
		"catch-all before packets": {[]engine.Protocol{lines, packets}, []string{"protocol 1", "protocol 2"}},
		"catch-all in the middle":  {[]engine.Protocol{packets, lines, greeting}, []string{"protocol 2 (tcp", "protocol 3 (hello"}},
		"a stranger's twice":       {[]engine.Protocol{greeting, packets, hello{lines}}, []string{"protocol 1 (hello", "protocol 3 (hello"}},
		"TLS twice":                {[]engine.Protocol{secure, packets, engine.TLS(engine.TLSConfig{SelfSigned: true})}, []string{"protocol 1 (tls", "protocol 3 (tls"}},
		"PROXY twice":              {[]engine.Protocol{trusted, packets, trusted}, []string{"protocol 1 (proxy", "protocol 3 (proxy"}},
		"a transport twice":        {[]engine.Protocol{&counted{}, &counted{}}, []string{"protocol 1 (counted", "protocol 2 (counted"}},
		"the catch-all last":       {[]engine.Protocol{packets, greeting, lines}, nil},
		"in another order":         {[]engine.Protocol{greeting, packets, lines}, nil},
		"undecided":                {[]engine.Protocol{packets, undecided{packets}, lines}, nil},
		"with TLS and PROXY":       {[]engine.Protocol{secure, trusted, packets, lines}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine.New(engine.Config{Handler: echo, Logger: slog.New(slog.DiscardHandler)})
			defer func() { _ = e.Close() }()
			_, err := e.Listen("127.0.0.1:0", c.protocols...)
			if (err == nil) != (c.names == nil) {
				t.Fatal(err)
			}
			for _, name := range c.names {
				if !strings.Contains(err.Error(), name) {
					t.Errorf("%v: %q is missing", err, name)
				}
			}
		})
	}
}

// counted is a transport that binds nothing.
type counted struct{}

func (*counted) Name() string { return "counted" }
func (*counted) Listen(*engine.Host, string) (engine.Endpoint, error) {
	return counted{}, nil
}
func (*counted) Dial(context.Context, *engine.Host, string) (*engine.Port, error) {
	return nil, errors.ErrUnsupported
}
func (counted) Addr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (counted) StopAccepting() {}
func (counted) Close() error   { return nil }
