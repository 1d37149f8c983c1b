package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/framing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// acceptEach runs handle for each connection to a listener of its own, until the
// test ends, and returns the listener's address.
func acceptEach(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

func echoRaw(conn net.Conn) { io.Copy(conn, conn) }

// echoPackets answers packets; spoil may change or remove the answer to the
// packet of a given number.
func echoPackets(spoil func(number int, answer []byte) []byte) func(net.Conn) {
	return func(conn net.Conn) {
		r := bufio.NewReader(conn)
		for number := 1; ; number++ {
			packet := make([]byte, framing.PacketHeaderSize)
			if _, err := io.ReadFull(r, packet); err != nil {
				return
			}
			payload := make([]byte, binary.BigEndian.Uint32(packet[10:]))
			if _, err := io.ReadFull(r, payload); err != nil {
				return
			}
			packet[2] = byte(framing.Response)
			answer := append(packet, payload...)
			if spoil != nil {
				answer = spoil(number, answer)
			}
			if _, err := conn.Write(answer); err != nil {
				return
			}
		}
	}
}

// limitedConn reads from r instead of the connection, so that its input can end early.
type limitedConn struct {
	net.Conn
	r io.Reader
}

func (c limitedConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// short is a load that takes little time.
func short(url string) Config {
	return Config{URL: url, Sessions: 3, InFlight: 20, Duration: 50 * time.Millisecond, Warmup: 10 * time.Millisecond}
}

func TestRun(t *testing.T) {
	raw := acceptEach(t, echoRaw)
	packets := acceptEach(t, echoPackets(nil))
	socket := acceptEach(t, func(conn net.Conn) {
		if _, err := ws.Upgrade(conn); err != nil {
			return
		}
		for {
			message, op, err := wsutil.ReadClientData(conn)
			if err != nil || wsutil.WriteServerMessage(conn, op, message) != nil {
				return
			}
		}
	})
	for _, c := range []struct {
		name string
		cfg  func(*Config)
	}{
		{"raw", func(c *Config) { c.URL, c.Raw = "tcp://"+raw, true }},
		{"raw, large", func(c *Config) { c.URL, c.Raw, c.Size = "tcp://"+raw, true, 100_000 }},
		{"raw, empty", func(c *Config) { c.URL, c.Raw, c.Empty = "tcp://"+raw, true, true }},
		{"raw, no warm-up", func(c *Config) { c.URL, c.Raw, c.Warmup = "tcp://"+raw, true, -1 }},
		{"packets", func(c *Config) { c.URL = "tcp://" + packets }},
		{"packets, one in flight", func(c *Config) { c.URL, c.InFlight = "tcp://"+packets, 1 }},
		{"packets, one loop", func(c *Config) { c.URL, c.Loops = "tcp://"+packets, 1 }},
		{"WebSocket", func(c *Config) { c.URL, c.Raw = "ws://"+socket+"/any", true }},
		{"WebSocket, 16-bit length", func(c *Config) { c.URL, c.Raw, c.Size = "ws://"+socket+"/", true, 1000 }},
		{"WebSocket, 64-bit length", func(c *Config) { c.URL, c.Raw, c.Size = "ws://"+socket+"/", true, 70_000 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := short("")
			c.cfg(&cfg)
			var calls []string
			cfg.AtStart = func() { calls = append(calls, "start") }
			cfg.AtEnd = func() { calls = append(calls, "end") }
			r, err := Run(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if r.Errors != 0 || r.Messages <= 0 || r.Verified < r.Messages || r.Rate <= 0 {
				t.Errorf("%+v", r)
			}
			// Large windows may take longer than the measured time.
			if small := cfg.Size < 1000; small && r.Samples == 0 ||
				r.Samples > 0 && (r.LatencyMean <= 0 || r.LatencyP50 <= 0 || r.LatencyP99 < r.LatencyP50) {
				t.Errorf("latency: %+v", r)
			}
			if strings.Join(calls, " ") != "start end" {
				t.Errorf("called %v", calls)
			}
		})
	}
}

// TestRunFindsFaults checks that each fault of a server is found.
func TestRunFindsFaults(t *testing.T) {
	const at = 50 // the packet of each session that is spoiled
	swap := func(number int, answer []byte) []byte {
		if number == at || number == at+1 {
			binary.BigEndian.PutUint32(answer[4:], binary.BigEndian.Uint32(answer[4:])^1)
		}
		return answer
	}
	once := func(change func(answer []byte) []byte) func(net.Conn) {
		return echoPackets(func(number int, answer []byte) []byte {
			if number == at {
				return change(answer)
			}
			return answer
		})
	}
	for _, c := range []struct {
		name, says string
		handle     func(net.Conn)
	}{
		{"a reply is lost", "reply 50 differs", once(func([]byte) []byte { return nil })},
		{"a reply comes twice", "reply 51 differs", once(func(a []byte) []byte { return append(a, a...) })},
		{"IDs are swapped", "differs", echoPackets(swap)},
		{"a payload byte is wrong", "reply 50 differs", once(func(a []byte) []byte { a[len(a)-1] ^= 1; return a })},
		{"the type is wrong", "reply 50 differs", once(func(a []byte) []byte { a[2] = 0; return a })},
		{"a byte too many", "differs", once(func(a []byte) []byte { return append(a, 0) })},
		{"replies cease", "replies are missing", func(conn net.Conn) {
			echoPackets(nil)(limitedConn{conn, io.LimitReader(conn, at*20)})
			io.Copy(io.Discard, conn)
		}},
		{"the connection ends", "after 0 replies", func(conn net.Conn) {
			io.CopyN(io.Discard, conn, 20)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := short("tcp://" + acceptEach(t, c.handle))
			r, err := Run(context.Background(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			if r.Errors != cfg.Sessions || !strings.Contains(r.FirstError, c.says) {
				t.Errorf("%d sessions failed, the first: %q; want all %d, and %q", r.Errors, r.FirstError, cfg.Sessions, c.says)
			}
		})
	}
}

// TestRunFindsStrays gives each session the replies of its neighbor.
func TestRunFindsStrays(t *testing.T) {
	var mu sync.Mutex
	conns := map[net.Conn]bool{}
	addr := acceptEach(t, func(conn net.Conn) {
		mu.Lock()
		conns[conn] = true
		mu.Unlock()
		r := bufio.NewReader(conn)
		packet := make([]byte, 20)
		for {
			if _, err := io.ReadFull(r, packet); err != nil {
				return
			}
			mu.Lock()
			for other := range conns {
				if other != conn || len(conns) == 1 {
					other.Write(packet)
					break
				}
			}
			mu.Unlock()
		}
	})
	cfg := short("tcp://" + addr)
	cfg.Raw, cfg.Sessions = true, 2
	r, err := Run(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	if r.Errors == 0 {
		t.Errorf("no fault was reported: %+v", r)
	}
}

func TestRunEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cfg := short("tcp://" + acceptEach(t, echoRaw))
	cfg.Raw, cfg.Duration = true, time.Hour
	cfg.AtStart = cancel
	if r, err := Run(ctx, cfg); err != context.Canceled || r == nil || !r.Interrupted || r.Errors != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRunReportsNoServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if _, err := Run(context.Background(), short("tcp://"+listener.Addr().String())); err == nil {
		t.Error("no error")
	}
	refusing := acceptEach(t, func(conn net.Conn) {
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
	})
	_, err = Run(context.Background(), short("ws://"+refusing+"/ws"))
	if err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
}

// TestStallIsNoDeadlock checks a server that reads nothing for a while, so that
// the client's own writes get stuck.
func TestStallIsNoDeadlock(t *testing.T) {
	addr := acceptEach(t, func(conn net.Conn) {
		var buf bytes.Buffer
		io.CopyN(&buf, conn, 1<<20)
		time.Sleep(50 * time.Millisecond)
		buf.WriteTo(conn)
		echoRaw(conn)
	})
	cfg := short("tcp://" + addr)
	cfg.Raw, cfg.Size, cfg.InFlight, cfg.Sessions = true, 100_000, 160, 1
	r, err := Run(context.Background(), cfg)
	if err != nil || r.Errors != 0 || r.Verified == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
