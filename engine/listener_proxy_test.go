package engine_test

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

var (
	trustLoopback = engine.ProxyProtocol{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	trustNobody   = engine.ProxyProtocol{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	proxyV1Line   = []byte("PROXY TCP4 198.51.100.7 192.0.2.8 1234 80\r\n")
	proxyV2Local  = []byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00")
)

// tellAddr answers with the session's remote address.
var tellAddr = engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
	_ = s.Reply(m, []byte(s.RemoteAddr().String()))
})

func told(addr string) []byte {
	return packet(&framing.Message{Type: framing.Response, ID: 2, Payload: []byte(addr)})
}

func TestProxyHeaderComesFirst(t *testing.T) {
	for name, protocols := range map[string][]engine.Protocol{
		"one protocol":      {trustLoopback, engine.Packets()},
		"several protocols": {hello{engine.Packets()}, engine.Packets(), trustLoopback},
	} {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				_, addr := serve(t, engine.Config{Handler: tellAddr, Dispatch: d}, protocols...)
				whole := append(append([]byte(nil), proxyV1Line...), ping...)
				for cut := range whole {
					c := dial(t, addr)
					_, _ = c.Write(whole[:cut])
					time.Sleep(time.Millisecond) // so that the pieces arrive apart
					_, _ = c.Write(whole[cut:])
					expect(t, c, told("198.51.100.7:1234"))
					_ = c.Close()
				}
				c := dial(t, addr)
				_, _ = c.Write(append(append([]byte(nil), proxyV2Local...), ping...))
				expect(t, c, told(c.LocalAddr().String()))
			})
		})
	}
}

func TestProxyHeaderIsRequiredFromTheTrusted(t *testing.T) {
	j := newJournal(reply)
	e, addr := serve(t, engine.Config{Handler: j}, trustLoopback, engine.Packets())
	c := dial(t, addr)
	_, _ = c.Write(ping)
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Fatalf("%q", got)
	}
	_ = c.Close()
	waitFor(t, "the count", func() bool { return e.Stats().Refused["protocol_error"] == 1 })
	if len(j.opened) > 0 {
		t.Fatal("opened")
	}
}

func TestProxyHeaderIsGarbageFromOthers(t *testing.T) {
	j := newJournal(nil)
	_, addr := serve(t, engine.Config{Handler: j}, trustNobody, engine.Packets())
	c := dial(t, addr)
	_, _ = c.Write(append(append([]byte(nil), proxyV1Line...), ping...))
	if err := j.reason(t); !errors.Is(err, engine.ErrProtocol) || errors.Is(err, engine.ErrProxyHeader) {
		t.Fatal(err)
	}
	_, addr = serve(t, engine.Config{Handler: tellAddr}, trustNobody, engine.Packets())
	c = dial(t, addr)
	_, _ = c.Write(ping)
	expect(t, c, told(c.LocalAddr().String()))
}

func TestProxyHeaderHasADeadline(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, HandshakeTimeout: 100 * time.Millisecond, SniffTimeout: -1},
		trustLoopback, hello{engine.Packets()}, engine.Packets())
	c, silent := dial(t, addr), dial(t, addr)
	_, _ = c.Write(proxyV1Line[:10])
	for _, c := range []net.Conn{c, silent} {
		if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
			t.Fatal(got, err)
		}
		_ = c.Close()
	}
	waitFor(t, "the count", func() bool { return e.Stats().Refused["handshake_timeout"] == 2 })
}

func TestProxyTellsTheLimitsWhoItIs(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: tellAddr, MaxSessionsPerAddr: 1}, trustLoopback, engine.Packets())
	for _, line := range []string{"PROXY TCP4 198.51.100.1 192.0.2.8 1 80\r\n", "PROXY TCP4 198.51.100.2 192.0.2.8 1 80\r\n"} {
		c := dial(t, addr)
		_, _ = c.Write(append([]byte(line), ping...))
		expect(t, c, told(line[11:23]+":1"))
	}
	c := dial(t, addr)
	// The same address, spelled for IPv6.
	_, _ = c.Write(append([]byte("PROXY TCP6 ::ffff:198.51.100.2 2001:db8::1 1 80\r\n"), ping...))
	if got, _ := io.ReadAll(c); len(got) > 0 {
		t.Fatalf("%q", got)
	}
	waitFor(t, "the count", func() bool { return e.Stats().Refused["max_sessions_per_addr"] == 1 })
	for s := range e.Sessions() {
		s.Abort(nil)
	}
	waitFor(t, "the sessions to end", func() bool { return e.Stats().Active == 0 })
	c = dial(t, addr)
	_, _ = c.Write(append([]byte("PROXY TCP4 198.51.100.2 192.0.2.8 9 80\r\n"), ping...))
	expect(t, c, told("198.51.100.2:9"))
}

// TestProxyRefusalSpeaksTheProtocolOfThePeer: if an address has too many sessions, the
// refusal follows the header, and the connection no longer counts against the limits.
func TestProxyRefusalSpeaksTheProtocolOfThePeer(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: tellAddr, MaxSessionsPerAddr: 1, MaxSessions: 2, MaxHandshakes: 2},
		trustLoopback, sorry{hello{engine.Packets()}}, engine.Packets())
	c := dial(t, addr)
	_, _ = c.Write(append(append([]byte(nil), proxyV1Line...), ping...))
	expect(t, c, told("198.51.100.7:1234"))
	for range 5 {
		c := dial(t, addr)
		_, _ = c.Write(append(append([]byte(nil), proxyV1Line...), "hello"...))
		expect(t, c, []byte("sorry: refused"))
		_ = c.Close()
	}
	waitFor(t, "the refused to be gone", func() bool { return e.Stats().Active == 1 })
	if n := e.Stats().Refused["max_sessions_per_addr"]; n != 5 {
		t.Fatal(n, " counted")
	}
	c = dial(t, addr)
	_, _ = c.Write(append([]byte("PROXY TCP4 198.51.100.9 192.0.2.8 9 80\r\n"), ping...))
	expect(t, c, told("198.51.100.9:9"))
}

func TestProxyOnAUnixSocketTrustsEverybody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	serveAt(t, engine.Config{Handler: tellAddr}, "unix:"+path, engine.ProxyProtocol{}, engine.Packets())
	c := dialUnix(t, path)
	_, _ = c.Write(append(append([]byte(nil), proxyV1Line...), ping...))
	expect(t, c, told("198.51.100.7:1234"))
}

func TestProxyProtocolThatMakesNoSense(t *testing.T) {
	for name, protocols := range map[string][]engine.Protocol{
		"alone":        {trustLoopback},
		"trusts none":  {engine.ProxyProtocol{}, engine.Packets()},
		"zero network": {engine.ProxyProtocol{Trusted: make([]netip.Prefix, 1)}, engine.Packets()},
	} {
		e := engine.New(engine.Config{Handler: echo})
		if _, err := e.Listen("127.0.0.1:0", protocols...); err == nil {
			t.Error(name)
		}
		_ = e.Close()
	}
}

// TestProxyHeaderComesBeforeTLS: the header is plain, and everything after it may be TLS.
func TestProxyHeaderComesBeforeTLS(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: tellAddr, Dispatch: d}, trustLoopback, overTLS(), engine.Packets())
		raw := dial(t, addr)
		_, _ = raw.Write(proxyV1Line)
		c := tls.Client(raw, clientTLS(tls.VersionTLS13))
		_, _ = c.Write(ping)
		expect(t, c, told("198.51.100.7:1234"))

		plain := dial(t, addr)
		_, _ = plain.Write(append(append([]byte(nil), proxyV1Line...), ping...))
		expect(t, plain, told("198.51.100.7:1234"))
	})
}
