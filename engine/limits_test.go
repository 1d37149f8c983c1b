package engine_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// refused reports whether a fresh connection to addr is closed without an answer to ping.
func refused(t testing.TB, addr string) bool {
	t.Helper()
	c := dial(t, addr)
	defer func() { _ = c.Close() }()
	_, _ = c.Write(ping)
	got, _ := io.ReadAll(io.LimitReader(c, int64(len(pong))))
	return len(got) == 0
}

func TestMaxSessions(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, MaxSessions: 3})
	for range 3 {
		c := dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		defer func() { _ = c.Close() }()
	}
	if !refused(t, addr) {
		t.Fatal("a fourth session")
	}
	if n := e.Stats().Refused["max_sessions"]; n != 1 {
		t.Fatal(n, " counted")
	}
	for s := range e.Sessions() {
		s.Abort(nil)
		break
	}
	waitFor(t, "the session to end", func() bool { return e.Stats().Active == 2 })
	if refused(t, addr) {
		t.Fatal("refused though one has gone")
	}
}

func TestMaxSessionsPerAddr(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, MaxSessionsPerAddr: 2})
	from := func(ip string) net.Conn {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 10 * time.Second}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Skip("this system has one loopback address: ", err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write(ping)
		return c
	}
	for range 2 {
		expect(t, from("127.0.0.1"), pong)
		expect(t, from("127.0.0.2"), pong)
	}
	if _, err := io.ReadFull(from("127.0.0.2"), make([]byte, 1)); err == nil {
		t.Fatal("a third session of one address")
	}
	if n := e.Stats().Refused["max_sessions_per_addr"]; n != 1 {
		t.Fatal(n, " counted")
	}
	expect(t, from("127.0.0.3"), pong)
	for s := range e.Sessions() {
		if s.RemoteAddr().Addr().String() == "127.0.0.2" {
			s.Abort(nil)
		}
	}
	waitFor(t, "the sessions to end", func() bool { return e.Stats().Active == 3 })
	expect(t, from("127.0.0.2"), pong)
}

func TestAcceptRate(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, AcceptRate: 5})
	served := 0
	for range 20 {
		if !refused(t, addr) {
			served++
		}
	}
	if n := e.Stats().Refused["accept_rate"]; served < 5 || n == 0 || int(n)+served != 20 {
		t.Fatalf("%d served, %d refused", served, n)
	}
	time.Sleep(time.Second)
	if refused(t, addr) {
		t.Fatal("refused after a second of rest")
	}
}

func TestHazard13ManyHalfOpenHandshakes(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, MaxHandshakes: 10, HandshakeTimeout: 300 * time.Millisecond},
		hello{engine.Packets()}, engine.Packets())
	first := dial(t, addr)
	_, _ = first.Write(ping)
	expect(t, first, pong)
	for range 10 {
		_, _ = dial(t, addr).Write([]byte("hel"))
	}
	waitFor(t, "the handshakes to begin", func() bool { return e.Stats().Active == 11 })
	if !refused(t, addr) {
		t.Fatal("an eleventh handshake")
	}
	if n := e.Stats().Refused["max_handshakes"]; n != 1 {
		t.Fatal(n, " counted")
	}
	_, _ = first.Write(ping) // an open session doesn't count, nor suffer
	expect(t, first, pong)
	waitFor(t, "the handshakes to time out", func() bool { return e.Stats().Refused["handshake_timeout"] == 10 })
	if refused(t, addr) {
		t.Fatal("refused though no handshake is under way")
	}
}

func TestRefusalSpeaksTheProtocolOfThePeer(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, MaxSessions: 1}, sorry{hello{engine.Packets()}}, engine.Packets())
	c := dial(t, addr)
	_, _ = c.Write(ping)
	expect(t, c, pong)
	c2 := dial(t, addr)
	_, _ = c2.Write([]byte("hello"))
	expect(t, c2, []byte("sorry: refused"))
	_ = c2.Close()
	_ = e.Close() // and waits for refused ones too
}

// TestRefusalsAreBounded refuses more connections than may be told so at a time.
// Those that were told linger, because they stay open.
func TestRefusalsAreBounded(t *testing.T) {
	const bound = 64
	e, addr := serve(t, engine.Config{Handler: echo, MaxSessions: 1, LingerTimeout: time.Hour}, sorry{hello{engine.Packets()}}, engine.Packets())
	c := dial(t, addr)
	_, _ = c.Write(ping)
	expect(t, c, pong)
	told := func() (net.Conn, bool) {
		c := dial(t, addr)
		_, _ = c.Write([]byte("hello"))
		got, _ := io.ReadAll(io.LimitReader(c, int64(len("sorry: refused"))))
		return c, string(got) == "sorry: refused"
	}
	var last net.Conn
	for i := range bound {
		var ok bool
		if last, ok = told(); !ok {
			t.Fatalf("the refused connection %d wasn't told so", i+1)
		}
	}
	for range 3 {
		if _, ok := told(); ok {
			t.Errorf("more than %d refused connections were told so", bound)
		}
	}
	if n := e.Stats().Active; n != 1+bound {
		t.Errorf("%d sessions", n)
	}
	_ = last.Close()
	waitFor(t, "its end", func() bool { return e.Stats().Active == bound })
	if _, ok := told(); !ok {
		t.Error("a refused connection wasn't told so though one has gone")
	}
}

// sorry is hello whose goodbye is an excuse.
type sorry struct{ hello }

func (p sorry) Accept(ctl *engine.Control) engine.Codec {
	return sorryCodec{p.hello.Accept(ctl).(*helloCodec)}
}

type sorryCodec struct{ *helloCodec }

func (sorryCodec) Goodbye(dst []byte, reason error) []byte {
	if errors.Is(reason, engine.ErrRefused) {
		return append(dst, "sorry: refused"...)
	}
	return dst
}

func TestMessageRateSlowsDownAndLosesNothing(t *testing.T) {
	for name, cfg := range map[string]engine.Config{
		"messages": {MessageRate: 200},
		"bytes":    {ByteRate: 200 * 1016},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.Handler = echo
			cfg.ReadBufferSize = 8 << 10
			e, addr := serve(t, cfg)
			c := dial(t, addr)
			stream := numbered(300, 1000)
			start := time.Now()
			go func() { _, _ = c.Write(stream) }()
			expect(t, c, stream)
			// 200 at once, then 100 more at 200 a second: half a second. The bound only
			// proves that reading was delayed.
			if d := time.Since(start); d < 300*time.Millisecond {
				t.Errorf("300 messages took %v at 200 a second", d)
			}
			if e.Stats().Throttled == 0 {
				t.Error("not counted")
			}
		})
	}
}

func TestWriteTimeout(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(func(s *engine.Session, _ *framing.Message) {
			for s.Engine().Stats().BytesOut < 1<<20 && s.Err() == nil {
				_ = s.Send(make([]byte, 1<<20))
				if d == engine.Inline {
					break
				}
			}
			for range 20 {
				_ = s.Send(make([]byte, 1<<20))
			}
		})
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, WriteTimeout: 200 * time.Millisecond, OutboxLimit: 64 << 20})
		c := dial(t, addr)
		_ = c.SetReadBuffer(4096)
		_, _ = c.Write(ping)
		if err := j.reason(t); !errors.Is(err, engine.ErrWriteTimeout) {
			t.Fatal(err)
		}
		if e.Stats().Closed["write_timeout"] != 1 {
			t.Fatal("not counted")
		}
	})
}

func TestWriteTimeoutSparesASlowReader(t *testing.T) {
	big := make([]byte, 12<<20)
	j := newJournal(func(s *engine.Session, _ *framing.Message) { _ = s.Send(big) })
	_, addr := serve(t, engine.Config{Handler: j, WriteTimeout: 300 * time.Millisecond, MaxMessageSize: 16 << 20})
	c := dial(t, addr)
	_ = c.SetReadBuffer(64 << 10)
	_, _ = c.Write(ping)
	for left := len(big) + framing.PacketHeaderSize; left > 0; {
		n, err := io.ReadFull(c, make([]byte, min(left, 1<<20)))
		if err != nil {
			t.Fatal(err)
		}
		left -= n
		time.Sleep(60 * time.Millisecond)
	}
}

// shy is a protocol that needs more than 4 KiB to decide whether a connection is its own.
type shy struct{ hello }

func (shy) Name() string { return "shy" }
func (shy) Match(first []byte) engine.Match {
	return engine.MatchMore
}

// TestHazard13SlowLorisInTheFirstBytes sends the bytes that select the protocol slowly:
// the deadline counts from the first.
func TestHazard13SlowLorisInTheFirstBytes(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, HandshakeTimeout: 300 * time.Millisecond},
		shy{hello{engine.Packets()}}, hello{engine.Packets()})
	c := dial(t, addr)
	go func() {
		for {
			if _, err := c.Write([]byte("z")); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second)) // ten times as long as a handshake may take
	_, err := io.ReadAll(c)
	_ = c.Close()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the handshake goes on and on")
	}
	waitFor(t, "its end", func() bool { return e.Stats().Refused["handshake_timeout"] == 1 })
}
