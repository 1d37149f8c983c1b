package wsupgrade_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/wsupgrade"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a handler that echoes, and keeps the reasons of OnClose.
type recorder struct {
	opened  chan *engine.Session
	reasons chan error
	message func(s *engine.Session, m *framing.Message) // instead of the echo
}

func newRecorder() *recorder {
	return &recorder{opened: make(chan *engine.Session, 64), reasons: make(chan error, 64)}
}

func (r *recorder) OnOpen(s *engine.Session) { r.opened <- s }

func (r *recorder) OnMessage(s *engine.Session, m *framing.Message) {
	if r.message != nil {
		r.message(s, m)
		return
	}
	_ = s.Reply(m, m.Payload)
}

func (r *recorder) OnClose(_ *engine.Session, reason error) { r.reasons <- reason }

// startWS starts an engine that speaks packets, and WebSocket on /ws (packets)
// and /echo (plain), and returns it with its address.
func startWS(t testing.TB, cfg engine.Config) (*engine.Engine, string) {
	t.Helper()
	return serve.Start(t, cfg, engine.Packets(), wsupgrade.New(wsupgrade.Config{Packets: []string{"/ws"}, Plain: []string{"/echo"}}))
}

// echoInEachDispatch runs f against an echo server in each dispatch mode.
func echoInEachDispatch(t *testing.T, f func(t *testing.T, addr string, r *recorder)) {
	serve.EachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		r := newRecorder()
		_, addr := startWS(t, engine.Config{Handler: r, Dispatch: d})
		f(t, addr, r)
	})
}

// foreign is gobwas's client: a connection, and the bytes read ahead of it.
type foreign struct {
	net.Conn
	r io.Reader
}

func (c *foreign) Read(p []byte) (int, error) { return c.r.Read(p) }

func dialForeign(t testing.TB, addr, path string) *foreign {
	t.Helper()
	conn, br, _, err := ws.Dial(t.Context(), "ws://"+addr+path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	c := &foreign{Conn: conn, r: conn}
	if br != nil {
		c.r = br
	}
	return c
}

// wantClose reads until a close frame comes, checks its code, and that the
// connection ends after it.
func wantClose(t testing.TB, r io.Reader, code ws.StatusCode) {
	t.Helper()
	for {
		f, err := ws.ReadFrame(r)
		if err != nil {
			t.Fatalf("before a close frame: %v", err)
		}
		if f.Header.OpCode != ws.OpClose {
			continue
		}
		if got, reason := ws.ParseCloseFrameData(f.Payload); got != code {
			t.Fatalf("close code %d %q, want %d", got, reason, code)
		}
		break
	}
	if n, err := io.Copy(io.Discard, r); n != 0 || err != nil {
		t.Fatalf("%d bytes behind the close frame, %v", n, err)
	}
}

func TestForeignClientEcho(t *testing.T) {
	echoInEachDispatch(t, func(t *testing.T, addr string, r *recorder) {
		c := dialForeign(t, addr, "/echo?x=1")
		for _, size := range []int{0, 1, 125, 126, 4096, 65535, 65536, 1 << 20} {
			for _, op := range []ws.OpCode{ws.OpText, ws.OpBinary} {
				want := bytes.Repeat([]byte("ä"), size/2)
				go func() { _ = wsutil.WriteClientMessage(c, op, bytes.Clone(want)) }()
				got, gotOp, err := wsutil.ReadServerData(c)
				if err != nil || gotOp != op || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes: %d bytes, opcode %d, %v", size, len(got), gotOp, err)
				}
			}
		}
		if s := testkit.Receive(t, r.opened, "OnOpen"); s.Transport() != "ws" || s.Dialed() {
			t.Errorf("transport %q, dialed %v", s.Transport(), s.Dialed())
		}
	})
}

func TestForeignClientPackets(t *testing.T) {
	echoInEachDispatch(t, func(t *testing.T, addr string, _ *recorder) {
		c := dialForeign(t, addr, "/ws")
		request, _ := framing.AppendPacket(nil, &framing.Message{Type: framing.Request, ID: 2, Payload: []byte("ping")})
		if err := wsutil.WriteClientBinary(c, request); err != nil {
			t.Fatal(err)
		}
		got, err := wsutil.ReadServerBinary(c)
		want, _ := framing.AppendPacket(nil, &framing.Message{Type: framing.Response, ID: 2, Payload: []byte("ping")})
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("% x, %v; want % x", got, err, want)
		}
	})
}

// TestForeignClientFragments sends a message of 1 MiB in pieces with pings
// between them, and then the closing handshake.
func TestForeignClientFragments(t *testing.T) {
	echoInEachDispatch(t, func(t *testing.T, addr string, r *recorder) {
		c := dialForeign(t, addr, "/echo")
		want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() {
			w := wsutil.NewWriterSize(c, ws.StateClientSide, ws.OpText, 4096)
			for at := 0; at < len(want); at += 1 << 16 {
				_, _ = w.Write(want[at : at+1<<16])
				_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewPingFrame([]byte("still there?"))))
			}
			_ = w.Flush()
			_ = ws.WriteFrame(c, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(4321, "enough"))))
		}()
		pongs := 0
		for {
			f, err := ws.ReadFrame(c)
			if err != nil {
				t.Fatal(err)
			}
			if f.Header.OpCode == ws.OpPong && string(f.Payload) == "still there?" {
				pongs++
				continue
			}
			if f.Header.OpCode != ws.OpText || !bytes.Equal(f.Payload, want) {
				t.Fatalf("frame %+v", f.Header)
			}
			break
		}
		if pongs == 0 {
			t.Error("no ping was answered before the message was")
		}
		wantClose(t, c, 4321)
		_ = c.Close()
		var closed *wsupgrade.CloseError
		if reason := testkit.Receive(t, r.reasons, "OnClose"); !errors.As(reason, &closed) || closed.Code != 4321 ||
			closed.Reason != "enough" || !errors.Is(reason, engine.ErrPeerClosed) {
			t.Errorf("OnClose got %v", reason)
		}
	})
}

// TestPipelined sends many small messages at once and wants each back, in
// order.
func TestPipelined(t *testing.T) {
	const n = 50_000
	echoInEachDispatch(t, func(t *testing.T, addr string, _ *recorder) {
		c := dialForeign(t, addr, "/echo")
		go func() {
			w := bufio.NewWriterSize(c, 1<<16)
			for i := range uint32(n) {
				_ = ws.WriteFrame(w, ws.MaskFrameInPlace(ws.NewBinaryFrame(binary.BigEndian.AppendUint32(nil, i))))
			}
			_ = w.Flush()
		}()
		r := bufio.NewReaderSize(c, 1<<16)
		for i := range uint32(n) {
			f, err := ws.ReadFrame(r)
			if err != nil || len(f.Payload) != 4 || binary.BigEndian.Uint32(f.Payload) != i {
				t.Fatalf("message %d: % x, %v", i, f.Payload, err)
			}
		}
	})
}

// TestBreachIsTold closes with the right code and reason, after the replies to
// earlier messages.
func TestBreachIsTold(t *testing.T) {
	for name, tc := range map[string]struct {
		path  string
		frame []byte
		code  ws.StatusCode
		is    error
	}{
		"not masked":      {"/echo", ws.MustCompileFrame(ws.NewTextFrame([]byte("x"))), ws.StatusProtocolError, engine.ErrProtocol},
		"too large":       {"/echo", []byte{0x82, 0xff, 0, 0, 0, 0, 0x10, 0, 0, 1}, ws.StatusMessageTooBig, engine.ErrTooLarge},
		"text on packets": {"/ws", ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("x")))), ws.StatusUnsupportedData, engine.ErrProtocol},
		"not a packet": {"/ws", ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame([]byte("x")))),
			ws.StatusInvalidFramePayloadData, framing.ErrMalformed},
		"not UTF-8": {"/echo", ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("\xff")))),
			ws.StatusInvalidFramePayloadData, engine.ErrProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			echoInEachDispatch(t, func(t *testing.T, addr string, r *recorder) {
				c := dialForeign(t, addr, tc.path)
				before, _ := framing.AppendPacket(nil, &framing.Message{ID: 1})
				good := ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(before)))
				if _, err := c.Write(append(good, tc.frame...)); err != nil {
					t.Fatal(err)
				}
				if f, err := ws.ReadFrame(c); err != nil || f.Header.OpCode != ws.OpBinary || !bytes.Equal(f.Payload, before) {
					t.Fatalf("reply %+v, %v", f, err)
				}
				wantClose(t, c, tc.code)
				_ = c.Close()
				if reason := testkit.Receive(t, r.reasons, "OnClose"); !errors.Is(reason, tc.is) || !errors.Is(reason, engine.ErrProtocol) {
					t.Errorf("OnClose got %v", reason)
				}
			})
		})
	}
}

// TestApplicationCloses derives the close code from the reason.
func TestApplicationCloses(t *testing.T) {
	for name, tc := range map[string]struct {
		message func(s *engine.Session, m *framing.Message)
		code    ws.StatusCode
		is      error
	}{
		"Close":      {func(s *engine.Session, _ *framing.Message) { s.Close() }, ws.StatusNormalClosure, engine.ErrClosed},
		"CloseError": {func(s *engine.Session, _ *framing.Message) { s.CloseWith(&wsupgrade.CloseError{Code: 4001}) }, 4001, net.ErrClosed},
		"panic":      {func(*engine.Session, *framing.Message) { panic("boom") }, ws.StatusInternalServerError, engine.ErrHandlerPanic},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRecorder()
			r.message = tc.message
			_, addr := startWS(t, engine.Config{Handler: r})
			c := dialForeign(t, addr, "/echo")
			if err := wsutil.WriteClientText(c, []byte("go")); err != nil {
				t.Fatal(err)
			}
			wantClose(t, c, tc.code)
			_ = c.Close()
			if reason := testkit.Receive(t, r.reasons, "OnClose"); !errors.Is(reason, tc.is) {
				t.Errorf("OnClose got %v", reason)
			}
		})
	}
}

// TestShutdownSaysGoingAway tells open sessions 1001.
func TestShutdownSaysGoingAway(t *testing.T) {
	r := newRecorder()
	e, addr := startWS(t, engine.Config{Handler: r})
	c := dialForeign(t, addr, "/echo")
	testkit.Receive(t, r.opened, "OnOpen")
	var wg sync.WaitGroup
	wg.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
	wantClose(t, c, ws.StatusGoingAway)
	_ = c.Close()
	wg.Wait()
	if reason := testkit.Receive(t, r.reasons, "OnClose"); !errors.Is(reason, engine.ErrShutdown) {
		t.Errorf("OnClose got %v", reason)
	}
}

// TestRawHandshakes answers other requests than upgrades with HTTP errors, without
// a session and without OnClose.
func TestRawHandshakes(t *testing.T) {
	r := newRecorder()
	_, addr := startWS(t, engine.Config{Handler: r, HandshakeTimeout: 200 * time.Millisecond})
	for head, status := range map[string]int{
		"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n":                                 http.StatusNotFound,
		"GET /ws HTTP/1.1\r\nHost: a\r\n\r\n":                                      http.StatusBadRequest,
		"GET /ws HTTP/1.1\r\nX: " + strings.Repeat("x", 16<<10):                    http.StatusRequestHeaderFieldsTooLarge,
		"GET /ws HTTP/1.1\r\nHost: and then nothing more":                          http.StatusRequestTimeout,
		upgradeRequest("/echo", "Sec-WebSocket-Version: 8"):                        http.StatusUpgradeRequired,
		upgradeRequest("/echo", "Sec-WebSocket-Version: 13\r\nContent-Length: 12"): http.StatusBadRequest,
	} {
		c := testkit.Dial(t, addr)
		if _, err := io.WriteString(c, head); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%.40q: %v", head, err)
		}
		if _, err := io.ReadAll(res.Body); err != nil || res.StatusCode != status || !res.Close {
			t.Errorf("%.40q: HTTP %d, %v; want %d", head, res.StatusCode, err, status)
		}
		_ = res.Body.Close()
	}
	select {
	case s := <-r.opened:
		t.Errorf("session %d was opened", s.ID())
	case reason := <-r.reasons:
		t.Errorf("OnClose got %v", reason)
	default:
	}
}

func upgradeRequest(path, more string) string {
	return fmt.Sprintf("GET %s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n%s\r\n\r\n", path, more)
}

// TestRawInSingleBytes sends a handshake, a message and a close byte by byte.
func TestRawInSingleBytes(t *testing.T) {
	echoInEachDispatch(t, func(t *testing.T, addr string, _ *recorder) {
		c := testkit.Dial(t, addr)
		stream := append([]byte(upgradeRequest("/echo", "Sec-WebSocket-Version: 13")),
			ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte("byte by byte"))))...)
		stream = append(stream, ws.MustCompileFrame(ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(1000, ""))))...)
		for i := range stream {
			if _, err := c.Write(stream[i : i+1]); err != nil {
				t.Fatal(err)
			}
		}
		r := bufio.NewReader(c)
		res, err := http.ReadResponse(r, nil)
		if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
			t.Fatal(res, err)
		}
		_ = res.Body.Close()
		if f, err := ws.ReadFrame(r); err != nil || string(f.Payload) != "byte by byte" {
			t.Fatalf("%+v, %v", f, err)
		}
		wantClose(t, r, ws.StatusNormalClosure)
	})
}

// TestListenRefusesUnreachableWebSocket: after a catch-all, or after another
// WebSocket protocol, no connection would reach it. One Protocol serves several
// paths.
func TestListenRefusesUnreachableWebSocket(t *testing.T) {
	lines := engine.Framed(framing.Line{})
	for name, c := range map[string]struct {
		protocols []engine.Protocol
		legal     bool
	}{
		"two WebSockets":     {[]engine.Protocol{wsupgrade.Path("/a"), engine.Packets(), wsupgrade.Path("/b")}, false},
		"behind a catch-all": {[]engine.Protocol{lines, wsupgrade.Path("/a")}, false},
		"two paths": {[]engine.Protocol{wsupgrade.New(wsupgrade.Config{Packets: []string{"/a"}, Plain: []string{"/b"}}),
			engine.Packets()}, true},
		"in front of lines":    {[]engine.Protocol{wsupgrade.Path("/a"), engine.Packets(), lines}, true},
		"packets in front too": {[]engine.Protocol{engine.Packets(), wsupgrade.Path("/a"), lines}, true},
	} {
		e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(*engine.Session, *framing.Message) {})})
		_, err := e.Listen("127.0.0.1:0", c.protocols...)
		if (err == nil) != c.legal {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil && strings.Count(err.Error(), "protocol ") < 2 {
			t.Errorf("%s: the error doesn't name the two: %v", name, err)
		}
		_ = e.Close()
	}
}

// TestLargeFrameTakesItsSizeOnce: the memory of a frame grows to the size that its
// header says, in few steps, and not to a power of two above it.
func TestLargeFrameTakesItsSizeOnce(t *testing.T) {
	const size = 16 << 20
	got := make(chan int, 1)
	_, addr := startWS(t, engine.Config{MaxMessageSize: size, Cores: 1,
		Handler: engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) { got <- len(m.Payload) })})
	c := dialForeign(t, addr, "/echo")
	frame := ws.MustCompileFrame(ws.MaskFrame(ws.NewBinaryFrame(make([]byte, size))))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := c.Write(frame); err != nil {
		t.Fatal(err)
	}
	if n := testkit.Receive(t, got, "the message"); n != size {
		t.Errorf("%d bytes", n)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > size*3/2 {
		t.Errorf("%d bytes were allocated for %d", n, size)
	}
}

// TestPartialTimeoutOfFragments: a message in fragments must be completed in
// PartialTimeout, also if control frames come in between.
func TestPartialTimeoutOfFragments(t *testing.T) {
	serve.EachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		r := newRecorder()
		_, addr := startWS(t, engine.Config{Handler: r, Dispatch: d, PartialTimeout: 500 * time.Millisecond})
		c := dialForeign(t, addr, "/echo")
		first := ws.NewFrame(ws.OpBinary, false, []byte("the first of two"))
		if _, err := c.Write(ws.MustCompileFrame(ws.MaskFrame(first))); err != nil {
			t.Fatal(err)
		}
		go func() {
			ping := ws.MustCompileFrame(ws.MaskFrame(ws.NewPingFrame(nil)))
			for range 100 {
				if _, err := c.Write(ping); err != nil {
					return
				}
				time.Sleep(50 * time.Millisecond) // a peer that lives
			}
		}()
		if err := testkit.Receive(t, r.reasons, "the end"); !errors.Is(err, engine.ErrPartialTimeout) {
			t.Error(err)
		}
	})
}
