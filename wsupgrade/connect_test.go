package wsupgrade

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// serveOnce runs handle on one end of a pipe and gives back the other.
func serveOnce(t *testing.T, handle func(net.Conn)) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer server.Close()
		handle(server)
	}()
	t.Cleanup(func() {
		client.Close()
		<-done
	})
	return client
}

// readRequest reads the client's request; a pipe's writer waits for that.
func readRequest(t *testing.T, conn net.Conn) *http.Request {
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		t.Errorf("request: %v", err)
	}
	return req
}

// connect dials conn with the path /ws, and fails unless the error is want.
func connectFails(t *testing.T, ctx context.Context, conn net.Conn, want error) error {
	t.Helper()
	codec, rest, err := Path("/ws").Connect(ctx, conn, "127.0.0.1:80", *testLimits())
	if !errors.Is(err, want) || codec != nil || rest != nil {
		t.Fatalf("%v, %v, %v; want %v", codec, rest, err, want)
	}
	return err
}

// TestConnect has gobwas's own upgrader answer, with frames right after the
// response, and sends in both directions.
func TestConnect(t *testing.T) {
	early := append(fromServer(ws.OpText, true, "early"), fromServer(ws.OpPing, true, "")...)
	got := make(chan string, 1)
	conn := serveOnce(t, func(conn net.Conn) {
		u := ws.Upgrader{OnRequest: func(uri []byte) error {
			got <- string(uri)
			return nil
		}}
		if _, err := u.Upgrade(struct {
			io.Reader
			io.Writer
		}{conn, &together{Writer: conn, after: early}}); err != nil {
			t.Errorf("upgrade: %v", err)
		}
	})
	c, rest, err := New(Config{Plain: []string{"/echo", "/ws"}}).Connect(t.Context(), conn, "example.com:8001", *testLimits())
	if err != nil {
		t.Fatal(err)
	}
	if uri := <-got; uri != "/echo" || string(rest) != string(early) {
		t.Fatalf("asked for %q, rest % x", uri, rest)
	}
	ours, s := c.(*codec), &fakeSession{}
	if !ours.client || !ours.plain || ours.NeedsHandshake() || ours.limit != testLimit {
		t.Fatalf("codec %+v", ours)
	}
	if o := feed(t, ours, s, rest); o.err != nil || len(o.messages) != 1 || string(o.messages[0].Payload) != "early" || len(s.control) == 0 {
		t.Errorf("%+v", o)
	}
}

// together appends after to the first write.
type together struct {
	io.Writer
	after []byte
}

func (w *together) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(append(p[:len(p):len(p)], w.after...))
	w.after = nil
	return min(n, len(p)), err
}

// TestConnectHost sends a Host header that a server can use.
func TestConnectHost(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1:8001":   "127.0.0.1:8001",
		"[::1]:8001":       "[::1]:8001",
		"/run/echo.sock":   "localhost",
		"@abstract":        "localhost",
		"":                 "localhost",
		"example.com:8001": "example.com:8001",
	} {
		conn := serveOnce(t, func(conn net.Conn) {
			if req := readRequest(t, conn); req != nil && (req.Host != want || req.URL.Path != "/ws") {
				t.Errorf("%q: asked %q for %q", addr, req.Host, req.URL.Path)
			}
		})
		if _, _, err := Path("/ws").Connect(t.Context(), conn, addr, *testLimits()); err == nil {
			t.Errorf("%q: connected to nothing", addr)
		}
	}
}

// TestConnectRefused tells the server's status.
func TestConnectRefused(t *testing.T) {
	for _, status := range []int{200, 302, 401, 404, 426, 503} {
		conn := serveOnce(t, func(conn net.Conn) {
			readRequest(t, conn)
			fmt.Fprintf(conn, "HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n", status)
		})
		var refused *HandshakeError
		if err := connectFails(t, t.Context(), conn, engine.ErrRefused); !errors.As(err, &refused) || refused.Status != status {
			t.Errorf("HTTP %d is told as %v", status, err)
		}
	}
}

// TestConnectWrongAnswer is a server that doesn't keep RFC 6455 section 4.1.
func TestConnectWrongAnswer(t *testing.T) {
	const start = "HTTP/1.1 101 Switching Protocols\r\n"
	for name, answer := range map[string]string{
		"no HTTP":       "\x01\x00\x00\x00 hello\r\n\r\n",
		"HTTP/1.0":      "HTTP/1.0 101 Switching Protocols\r\n\r\n",
		"nothing in it": start + "\r\n",
		"wrong accept":  start + "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
		"an extension":  start + "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n",
		"a subprotocol": start + "Sec-WebSocket-Protocol: chat\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conn := serveOnce(t, func(conn net.Conn) {
				readRequest(t, conn)
				_, _ = io.WriteString(conn, answer)
			})
			connectFails(t, t.Context(), conn, engine.ErrProtocol)
		})
	}
}

// TestConnectEndlessAnswer reads no more than the bound of a server that
// doesn't stop.
func TestConnectEndlessAnswer(t *testing.T) {
	sent := make(chan int, 1)
	conn := serveOnce(t, func(conn net.Conn) {
		readRequest(t, conn)
		total, _ := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nX-Endless: ")
		for range 1024 {
			n, err := io.WriteString(conn, strings.Repeat("a", 1024))
			if total += n; err != nil {
				break
			}
		}
		sent <- total
	})
	err := connectFails(t, t.Context(), conn, engine.ErrTooLarge)
	conn.Close()
	if total := <-sent; !errors.Is(err, engine.ErrProtocol) || total > maxHandshake {
		t.Errorf("%v after %d bytes", err, total)
	}
}

// TestConnectLost is a server that hangs up, and a context that ends.
func TestConnectLost(t *testing.T) {
	for name, answer := range map[string]string{"at once": "", "amid a line": "HTTP/1.1 101 Sw",
		"amid the head": "HTTP/1.1 101 X\r\nUpgrade: websocket\r\n"} {
		t.Run(name, func(t *testing.T) {
			conn := serveOnce(t, func(conn net.Conn) {
				readRequest(t, conn)
				_, _ = io.WriteString(conn, answer)
			})
			if err := connectFails(t, t.Context(), conn, engine.ErrConnectionLost); !errors.Is(err, io.EOF) {
				t.Errorf("%v doesn't tell the cause", err)
			}
		})
	}
	t.Run("context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		conn := serveOnce(t, func(conn net.Conn) {
			readRequest(t, conn)
			cancel()
			_, _ = conn.Read(make([]byte, 1))
		})
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
		connectFails(t, ctx, conn, context.Canceled)
	})
}

// TestZeroProtocolCantDial says so before it writes.
func TestZeroProtocolCantDial(t *testing.T) {
	if _, _, err := new(Protocol).Connect(t.Context(), nil, "", engine.Limits{}); err == nil {
		t.Error("dialed without a path")
	}
}
