package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"github.com/millrace/millrace/client"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

const (
	ping = "01 00 01 00 00000002 0000 00000004 0000 70696e67"
	pong = "01 00 02 00 00000002 0000 00000004 0000 70696e67"
)

// TestExampleInEveryCut sends the specification's example in two pieces, cut at
// each of its bytes, then byte by byte, then many at once.
func TestExampleInEveryCut(t *testing.T) {
	request, response := testkit.Unhex(ping), testkit.Unhex(pong)
	for _, dispatch := range []string{"workers", "inline"} {
		t.Run(dispatch, func(t *testing.T) {
			endpoints := startEcho(t, "--dispatch", dispatch)
			for cut := 1; cut < len(request); cut++ {
				conn := dialFirst(t, endpoints)
				testkit.Write(t, conn, request[:cut])
				time.Sleep(time.Millisecond) // so that the server reads twice
				testkit.Write(t, conn, request[cut:])
				testkit.Expect(t, conn, response)
				conn.Close()
			}
			conn := dialFirst(t, endpoints)
			for i := range request {
				testkit.Write(t, conn, request[i:i+1])
				time.Sleep(time.Millisecond) // as above
			}
			testkit.Expect(t, conn, response)
			testkit.Write(t, conn, bytes.Repeat(request, 1000))
			testkit.Expect(t, conn, bytes.Repeat(response, 1000))
		})
	}
}

// TestPackets checks each field of the answer, on a socket with pipelined requests.
func TestPackets(t *testing.T) {
	conn := dialFirst(t, startEcho(t))
	for _, c := range []struct{ name, send, want string }{
		{"one way", "01000000 00000001 0000 00000005 0000 68656c6c6f", "01000000 00000001 0000 00000005 0000 68656c6c6f"},
		{"one way without ID", "01000000 00000000 0000 00000001 0000 61", "01000000 00000000 0000 00000001 0000 61"},
		{"empty request", "01000100 00000003 0000 00000000 0000", "01000200 00000003 0000 00000000 0000"},
		{"biz type and extension", "0100012a 00000004 0003 00000001 0000 616263 64", "0100022a 00000004 0003 00000001 0000 616263 64"},
		{"one way with extension", "0100000b ffffffff 0001 00000001 0000 6162", "0100000b ffffffff 0001 00000001 0000 6162"},
		{"compressed stays so", "01020100 00000005 0000 00000002 0000 789c", "01020200 00000005 0000 00000002 0000 789c"},
		{"fragment, priority, route", "01000100 00000006 0004 00000000 0007 00000001", "01000200 00000006 0004 00000000 0007 00000001"},
		{"unknown flags", "01000100 00000007 0000 00000000 8010", "01000200 00000007 0000 00000000 8010"},
		{"a request can't have failed", "01000100 00000008 0000 00000000 0300", "01000200 00000008 0000 00000000 0000"},
		{"a response is not answered", "01000200 00000009 0000 00000001 0000 61", ""},
		{"nor a cancellation", "01000000 00000008 0000 00000000 0400", ""},
		{"and the session goes on", ping, pong},
	} {
		t.Run(c.name, func(t *testing.T) {
			testkit.Write(t, conn, testkit.Unhex(c.send))
			testkit.Expect(t, conn, testkit.Unhex(c.want))
		})
	}
}

// TestFramings checks that the messages of each framing come back unchanged.
func TestFramings(t *testing.T) {
	for _, c := range []struct{ framing, stream string }{
		{"line", "one\ntwo\r\n\n\r\nGET / HTTP/1.1\r\n"},
		{"muxline", "\x00\x00\x00\x0aten\n\x00\x00\x00\x00\n\x0a\x0a\x0a\x0azw\xc3\xb6lf\n"},
		{"length", "\x00\x00\x00\x05hello\x00\x00\x00\x00\x00\x00\x00\x01\x00"},
		{"delimiter", "hello\x00\x00GET / HTTP/1.1\r\n\x00"},
		{"raw", "\x01\x00GET / HTTP/1.1\r\n\r\n\xff"},
	} {
		t.Run(c.framing, func(t *testing.T) {
			endpoints := startEcho(t, "--framing", c.framing)
			whole := dialFirst(t, endpoints)
			testkit.Write(t, whole, []byte(c.stream))
			testkit.Expect(t, whole, []byte(c.stream))
			cut := dialFirst(t, endpoints)
			for i := range len(c.stream) {
				testkit.Write(t, cut, []byte(c.stream[i:i+1]))
			}
			testkit.Expect(t, cut, []byte(c.stream))
		})
	}
}

func TestWebSocketText(t *testing.T) {
	endpoints := startEcho(t)
	conn := dialWebSocket(t, endpoints[2])
	for _, text := range []string{"hello", "", "zwölf", "last"} {
		if err := wsutil.WriteClientText(conn, []byte(text)); err != nil {
			t.Fatal(err)
		}
		got, op, err := wsutil.ReadServerData(conn)
		if err != nil || op != ws.OpText || string(got) != text {
			t.Fatalf("got %q, %v, %v; want text %q", got, op, err, text)
		}
	}
	if err := wsutil.WriteClientBinary(conn, []byte{0, 0xff}); err != nil {
		t.Fatal(err)
	}
	if got, op, err := wsutil.ReadServerData(conn); err != nil || op != ws.OpBinary || !bytes.Equal(got, []byte{0, 0xff}) {
		t.Fatalf("got %x, %v, %v; want the binary message", got, op, err)
	}
}

func TestWebSocketPackets(t *testing.T) {
	endpoints := startEcho(t)
	conn := dialWebSocket(t, endpoints[1])
	if err := wsutil.WriteClientBinary(conn, testkit.Unhex(ping)); err != nil {
		t.Fatal(err)
	}
	if got, op, err := wsutil.ReadServerData(conn); err != nil || op != ws.OpBinary || !bytes.Equal(got, testkit.Unhex(pong)) {
		t.Fatalf("got %x, %v, %v; want %s", got, op, err, pong)
	}
}

func dialWebSocket(t *testing.T, url string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	conn, buffered, _, err := ws.Dial(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	if buffered != nil {
		t.Fatal("the server spoke first")
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	return conn
}

// TestQUIC asks over QUIC, also with framings that exclude WebSocket.
func TestQUIC(t *testing.T) {
	for _, kind := range []string{"packet", "line"} {
		t.Run(kind, func(t *testing.T) {
			endpoints := startEcho(t, "--framing", kind)
			ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
			defer cancel()
			c, err := client.Dial(ctx, endpoints[len(endpoints)-1], client.WithTLS(&tls.Config{InsecureSkipVerify: true}))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			answer, err := c.RequestMessage(ctx, &framing.Message{Payload: []byte("hello"), Ext: []byte("ext"), BizType: 7})
			if err != nil || string(answer.Payload) != "hello" || string(answer.Ext) != "ext" || answer.BizType != 7 {
				t.Fatalf("got %+v, %v", answer, err)
			}
		})
	}
}
