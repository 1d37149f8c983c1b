package wsupgrade_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/wsupgrade"
)

// TestPings: a browser that is silent answers pings and stays; one that does not answer is
// closed.
func TestPings(t *testing.T) {
	reasons := make(chan error, 1)
	_, addr := serve.Start(t, engine.Config{PingInterval: 50 * time.Millisecond, PongTimeout: 1500 * time.Millisecond,
		Handler: engine.HandlerFuncs{Close: func(_ *engine.Session, reason error) { reasons <- reason }},
	}, wsupgrade.Path("/ws"))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	for end, b := "", make([]byte, 1); end != "\r\n\r\n"; {
		if _, err := io.ReadFull(c, b); err != nil {
			t.Fatal(err)
		}
		if end += string(b); len(end) > 4 {
			end = end[1:]
		}
	}
	for answers := range 41 { // together longer than PongTimeout
		f, err := ws.ReadFrame(c)
		if err != nil || f.Header.OpCode != ws.OpPing || f.Header.Masked {
			t.Fatalf("%+v, %v", f, err)
		}
		if answers == 40 {
			break
		}
		if err := ws.WriteFrame(c, ws.MaskFrame(ws.NewPongFrame(f.Payload))); err != nil {
			t.Fatal(err)
		}
	}
	f, err := ws.ReadFrame(c)
	if err != nil || f.Header.OpCode != ws.OpClose {
		t.Errorf("%+v, %v", f, err)
	}
	_ = c.Close()
	if err := <-reasons; !errors.Is(err, engine.ErrPongTimeout) {
		t.Error(err)
	}
}
