package engine_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	accounting "github.com/millrace/millrace/internal/testkit/serve"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // tests panic on purpose
	goleak.VerifyTestMain(m, goleak.Cleanup(accounting.ExitAccounted))
}

var dispatches = map[string]engine.Dispatch{"workers": engine.Workers, "inline": engine.Inline}

// eachDispatch runs f once for each dispatch mode.
func eachDispatch(t *testing.T, f func(t *testing.T, d engine.Dispatch)) {
	for name, d := range dispatches {
		t.Run(name, func(t *testing.T) { f(t, d) })
	}
}

var echo = engine.HandlerFunc(func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, m.Payload) })

// serve starts an engine of cfg that listens for protocols (Packets if none),
// and returns it with its address. It is closed at the end of the test.
func serve(t testing.TB, cfg engine.Config, protocols ...engine.Protocol) (*engine.Engine, string) {
	t.Helper()
	if len(protocols) == 0 {
		protocols = []engine.Protocol{engine.Packets()}
	}
	if cfg.LingerTimeout == 0 {
		cfg.LingerTimeout = time.Second // test clients often don't close their side
	}
	e := engine.New(cfg)
	t.Cleanup(func() { _ = e.Close() })
	l, err := e.Listen("127.0.0.1:0", protocols...)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e, l.Addr().String()
}

// dial connects to addr; the connection is closed at the end of the test, and
// fails reads that take longer than 10 s.
func dial(t testing.TB, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.TCPConn)
}

func packet(m *framing.Message) []byte {
	b, err := framing.Packet{}.Append(nil, m)
	if err != nil {
		panic(err)
	}
	return b
}

func unhex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

var (
	ping = unhex("0100010000000002000000000004000070696e67")
	pong = unhex("0100020000000002000000000004000070696e67")
)

// expect reads len(want) bytes and compares.
func expect(t testing.TB, r io.Reader, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(r, got); err != nil {
		t.Fatalf("after %d of %d bytes: %v", n, len(want), err)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("got %x, want %x", got, want)
	}
}

func TestRequestGetsResponseInAnyCut(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d})
		for cut := range ping {
			c := dial(t, addr)
			if _, err := c.Write(ping[:cut]); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond) // so that the pieces arrive apart
			if _, err := c.Write(ping[cut:]); err != nil {
				t.Fatal(err)
			}
			expect(t, c, pong)
		}
	})
}

func TestPipelinedMessagesKeepTheirOrder(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d})
		c := dial(t, addr)
		const n = 200_000
		go func() {
			var b []byte
			for i := uint32(0); i < n; i++ {
				b, _ = framing.Packet{}.Append(b, &framing.Message{Type: framing.Request, ID: i, Payload: []byte("abcd")})
				if len(b) > 100_000 || i == n-1 {
					_, _ = c.Write(b)
					b = b[:0]
				}
			}
		}()
		r := make([]byte, 0, 1<<16)
		for next := uint32(0); next < n; {
			k, err := c.Read(r[len(r):cap(r)])
			if err != nil {
				t.Fatalf("after %d replies: %v", next, err)
			}
			r = r[:len(r)+k]
			rest := r
			for {
				var m framing.Message
				k, err := framing.Packet{}.Decode(rest, 0, 1<<20, &m)
				if err != nil {
					t.Fatal(err)
				}
				if k == 0 {
					break
				}
				if m.ID != next || m.Type != framing.Response || string(m.Payload) != "abcd" {
					t.Fatalf("reply %d: %+v", next, m)
				}
				next++
				rest = rest[k:]
			}
			r = r[:copy(r, rest)]
		}
	})
}

func TestServeDrainsWhenItsContextEnds(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		e := engine.New(engine.Config{Handler: echo, Dispatch: d})
		l, err := e.Listen("127.0.0.1:0", engine.Packets())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- e.Serve(ctx) }()
		c := dial(t, l.Addr().String())
		_, _ = c.Write(ping)
		expect(t, c, pong)
		cancel()
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			t.Fatalf("got %x, %v", b, err)
		}
		_ = c.Close()
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	})
}
