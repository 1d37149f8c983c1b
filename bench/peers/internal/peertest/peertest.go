// Package peertest checks that a rival echoes. A comparison with a server that
// loses or mixes up messages would be worthless.
package peertest

import (
	"bytes"
	"io"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/bench/peers/internal/peer"
	"github.com/millrace/millrace/framing"
)

const patience = 20 * time.Second

// Start starts serve on a port of its own and returns its URL.
func Start(t *testing.T, serve peer.Serve) string {
	t.Helper()
	ready, failed := make(chan string, 1), make(chan error, 1)
	go func() { failed <- serve("127.0.0.1:0", func(url string) { ready <- url }) }()
	select {
	case url := <-ready:
		return url
	case err := <-failed:
		t.Fatal("the server ended:", err)
	case <-time.After(patience):
		t.Fatal("the server isn't ready")
	}
	return ""
}

// Dial connects to the host and port of rawURL.
func Dial(t *testing.T, rawURL string) net.Conn {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", u.Host, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Packets sends requests of many sizes, larger ones than the buffers too,
// pipelined and cut anywhere, and checks their responses.
func Packets(t *testing.T, conn io.ReadWriter) {
	t.Helper()
	var requests, want []byte
	head := framing.PacketHeaderSize
	sizes := []int{0, 4, peer.BufferSize - head - 1, peer.BufferSize - head, peer.BufferSize - head + 1, 200_000, 1, peer.MaxMessageSize, 3}
	for range 2000 {
		sizes = append(sizes, 4)
	}
	for i, size := range sizes {
		m := framing.Message{Type: framing.Request, ID: uint32(i), Payload: bytes.Repeat([]byte{byte(i)}, size)}
		requests = appendPacket(t, requests, &m)
		m.Type = framing.Response
		want = appendPacket(t, want, &m)
	}
	exchange(t, conn, requests, want)
	oneByOne(t, conn)
}

// oneByOne sends a request after each answer, often enough that the start of a packet
// lies across the end of a server's buffers. It sends each packet in two pieces, so that
// the start is read alone.
func oneByOne(t *testing.T, conn io.ReadWriter) {
	t.Helper()
	for i := range 2000 {
		m := framing.Message{Type: framing.Request, ID: uint32(i), Payload: []byte("ping")}
		request := appendPacket(t, nil, &m)
		m.Type = framing.Response
		want := appendPacket(t, nil, &m)
		cut := i % len(request)
		for _, piece := range [][]byte{request[:cut], request[cut:]} {
			if _, err := conn.Write(piece); err != nil {
				t.Fatal(err)
			}
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(conn, got); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("request %d: %x, want %x", i, got, want)
		}
	}
}

func appendPacket(t *testing.T, to []byte, m *framing.Message) []byte {
	t.Helper()
	longer, err := framing.AppendPacket(to, m)
	if err != nil {
		t.Fatal(err)
	}
	return longer
}

// exchange writes requests in odd pieces and checks that want comes back.
func exchange(t *testing.T, conn io.ReadWriter, requests, want []byte) {
	t.Helper()
	written := make(chan error, 1)
	go func() {
		for rest := requests; len(rest) > 0; {
			n, err := conn.Write(rest[:min(len(rest), 70_001)])
			if err != nil {
				written <- err
				return
			}
			rest = rest[n:]
		}
		written <- nil
	}()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil {
		t.Fatalf("after %d of %d bytes: %v", n, len(want), err)
	}
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("byte %d of the answers: %x, want %x", i, got[i:min(i+16, len(got))], want[i:min(i+16, len(want))])
		}
	}
}

// MessageSizes are those of WebSocket's messages, in bytes, the empty one first:
// each form of a frame's length, at its edges.
var MessageSizes = []int{0, 20, 125, 126, 65535, 65536, 20, 20, 20}

// WebSocket makes the handshake with the server at rawURL, sends binary and text
// messages of sizes bytes, pipelined, and a ping, and checks the answers.
func WebSocket(t *testing.T, rawURL string, sizes []int) {
	t.Helper()
	conn := Dial(t, rawURL)
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	buffered, _, err := ws.Dialer{}.Upgrade(conn, u)
	if err != nil {
		t.Fatal(err)
	}
	if buffered != nil {
		t.Fatal("the server spoke first")
	}
	var requests, want bytes.Buffer
	for i, size := range sizes {
		op := ws.OpBinary
		if i%2 == 1 {
			op = ws.OpText
		}
		payload := bytes.Repeat([]byte{'a' + byte(i)}, size)
		put(t, &requests, ws.MaskFrame(ws.NewFrame(op, true, payload)))
		put(t, &want, ws.NewFrame(op, true, payload))
	}
	exchange(t, conn, requests.Bytes(), want.Bytes())
	requests.Reset()
	want.Reset()
	put(t, &requests, ws.MaskFrame(ws.NewPingFrame([]byte("ping"))))
	put(t, &want, ws.NewPongFrame([]byte("ping")))
	exchange(t, conn, requests.Bytes(), want.Bytes())
}

func put(t *testing.T, to *bytes.Buffer, frame ws.Frame) {
	t.Helper()
	if err := ws.WriteFrame(to, frame); err != nil {
		t.Fatal(err)
	}
}
