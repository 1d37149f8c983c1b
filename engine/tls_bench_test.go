//go:build !race

package engine_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

// TestTLSHotPathDoesNotAllocate allows the allocations of crypto/tls for each record, and
// none for each message.
func TestTLSHotPathDoesNotAllocate(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d}, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
		const messages = 1000
		requests, replies := bytes.Repeat(ping, messages), make([]byte, messages*len(pong))
		round := func() {
			_, _ = c.Write(requests)
			if _, err := io.ReadFull(c, replies); err != nil {
				t.Fatal(err)
			}
		}
		for range 20 {
			round()
		}
		if n := testing.AllocsPerRun(50, round); n > messages/100 {
			t.Errorf("%v allocations for %d messages", n, messages)
		}
	})
}

// TestIdleTLSSessionIsSmall weighs server sessions whose clients have sent a
// message each.
func TestIdleTLSSessionIsSmall(t *testing.T) {
	const sessions, limit = 200, 12 << 10
	heap := func() int64 { // signed: it may shrink between two looks
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	// The difference between sessions with both ends in this process, and the
	// same clients against a peer that keeps nothing, is the server's share.
	measure := func(e *engine.Engine, dialOne func() net.Conn) int64 {
		kept := make([]net.Conn, 0, sessions)
		kept = append(kept, dialOne())
		before := heap()
		for range sessions - 1 {
			kept = append(kept, dialOne())
		}
		after := heap()
		for _, c := range kept {
			_ = c.Close()
		}
		// Sessions that ended only later would count against the next measurement.
		waitFor(t, "the sessions' ends", func() bool { return e.Stats().Active == 0 })
		return (after - before) / (sessions - 1)
	}
	cfg := clientTLS(tls.VersionTLS13)
	cfg.SessionTicketsDisabled = true
	e, addr := serve(t, engine.Config{Handler: echo}, overTLS(), engine.Packets())
	both := measure(e, func() net.Conn {
		c := dialTLS(t, addr, cfg)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		return c
	})
	plain, plainAddr := serve(t, engine.Config{Handler: echo}, engine.Packets())
	sockets := measure(plain, func() net.Conn {
		c := dial(t, plainAddr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		return c
	})
	t.Logf("client and server over TLS %d bytes, plain %d", both, sockets)
	if share := (both - sockets) / 2; share > limit {
		t.Errorf("an idle TLS end costs %d bytes", share)
	}
}

// netEcho is the rival: Go's net and crypto/tls with a goroutine a connection.
func netEcho(b *testing.B) string {
	cert, err := tls.X509KeyPair(testCert, testKey)
	if err != nil {
		b.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, DynamicRecordSizingDisabled: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

func BenchmarkTLSEcho(b *testing.B) {
	for name, start := range map[string]func(b *testing.B) string{
		"workers": func(b *testing.B) string {
			_, addr := serve(b, engine.Config{Handler: echo}, overTLS(), engine.Packets())
			return addr
		},
		"inline": func(b *testing.B) string {
			_, addr := serve(b, engine.Config{Handler: echo, Dispatch: engine.Inline}, overTLS(), engine.Packets())
			return addr
		},
		"net": netEcho,
	} {
		for shape, load := range map[string]struct{ conns, window int }{
			"1x1000": {1, 1000}, "64x1": {64, 1}, "64x100": {64, 100},
		} {
			b.Run(name+"/"+shape, func(b *testing.B) { benchmarkTLS(b, start(b), load.conns, load.window) })
		}
	}
}

// benchmarkTLS sends b.N requests over conns connections, window at a time on
// each.
func benchmarkTLS(b *testing.B, addr string, conns, window int) {
	clients := make([]*tls.Conn, conns)
	for i := range clients {
		clients[i] = dialTLS(b, addr, clientTLS(tls.VersionTLS13))
		_ = clients[i].SetDeadline(time.Time{})
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(ping)))
	b.ResetTimer()
	var wg sync.WaitGroup
	for _, c := range clients {
		wg.Go(func() {
			requests, replies := bytes.Repeat(ping, window), make([]byte, window*len(pong))
			for done := 0; done < b.N/conns+1; done += window {
				_, _ = c.Write(requests)
				if _, err := io.ReadFull(c, replies); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}
