package e2e_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// A peer is a client made of other libraries, with its own code for packets.
type peer struct {
	transport string
	w         io.Writer
	r         *bufio.Reader
	close     func()

	// pack appends the transport's bytes for a packet.
	pack func(dst, packet []byte) []byte
	// next returns the bytes of the next packet, valid until the next call.
	next func() ([]byte, error)

	conn *quic.Conn // nil on other transports
}

// dialers are the transports' ways to connect to a server at host:port.
var dialers = []struct {
	transport string
	dial      func(t *testing.T, addr string) *peer
}{
	{"tcp", dialTCP},
	{"ws", dialWS},
	{"quic", dialQUIC},
}

const peerBuffer = 64 << 10 // bytes read at a time

func dialTCP(t *testing.T, addr string) *peer {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	return streamPeer("tcp", conn, func() { conn.Close() })
}

// streamPeer sends and receives packets back to back on rw.
func streamPeer(transport string, rw io.ReadWriter, closeIt func()) *peer {
	p := &peer{transport: transport, w: rw, r: bufio.NewReaderSize(rw, peerBuffer), close: closeIt}
	p.pack = func(dst, packet []byte) []byte { return append(dst, packet...) }
	var buf []byte
	p.next = func() ([]byte, error) {
		head, err := p.r.Peek(framing.PacketHeaderSize)
		if err != nil {
			return nil, err
		}
		size := framing.PacketHeaderSize + int(binary.BigEndian.Uint16(head[8:])) + int(binary.BigEndian.Uint32(head[10:]))
		buf = resize(buf, size)
		_, err = io.ReadFull(p.r, buf)
		return buf, err
	}
	return p
}

func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

func dialWS(t *testing.T, addr string) *peer {
	t.Helper()
	return webSocketPeer("ws", upgrade(t, "ws://"+addr+"/ws"))
}

// webSocketPeer sends and receives a packet in each frame on conn.
func webSocketPeer(transport string, conn net.Conn) *peer {
	p := &peer{transport: transport, w: conn, r: bufio.NewReaderSize(conn, peerBuffer), close: func() { conn.Close() }}
	p.pack = packWS
	var buf []byte
	p.next = func() ([]byte, error) {
		h, err := ws.ReadHeader(p.r)
		if err != nil {
			return nil, err
		}
		buf = resize(buf, int(h.Length))
		if _, err := io.ReadFull(p.r, buf); err != nil {
			return nil, err
		}
		if h.OpCode != ws.OpBinary || !h.Fin {
			return nil, fmt.Errorf("frame %+v with % x", h, buf)
		}
		return buf, nil
	}
	return p
}

// upgrade makes a WebSocket connection with a foreign client.
func upgrade(t *testing.T, url string) net.Conn {
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
	conn.SetDeadline(time.Now().Add(testkit.Patience))
	return conn
}

// packWS appends a masked binary frame with packet.
func packWS(dst, packet []byte) []byte {
	mask := [4]byte{0x5a, byte(len(packet)), 0x0f, 0xf1}
	const masked = 0x80
	dst = append(dst, 0x82)
	switch n := len(packet); {
	case n < 126:
		dst = append(dst, masked|byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, masked|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, masked|127), uint64(n))
	}
	dst = append(append(dst, mask[:]...), packet...)
	ws.Cipher(dst[len(dst)-len(packet):], mask, 0)
	return dst
}

// dialQUIC connects with a foreign QUIC client and opens a stream. close ends the
// connection in an orderly way.
func dialQUIC(t *testing.T, addr string) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	conn, err := quic.DialAddr(ctx, addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"millrace/1"}},
		&quic.Config{MaxIdleTimeout: testkit.Patience})
	if err != nil {
		t.Fatal(err)
	}
	stream, err := conn.OpenStream()
	if err != nil {
		t.Fatal(err)
	}
	stream.SetDeadline(time.Now().Add(testkit.Patience))
	p := streamPeer("quic", stream, func() { _ = conn.CloseWithError(0, "") }) // it may be closed already
	p.conn = conn
	return p
}

// cause waits for the end of a QUIC connection and returns why it ended.
func (p *peer) cause() error {
	select {
	case <-p.conn.Context().Done():
		return context.Cause(p.conn.Context())
	case <-time.After(testkit.Patience):
		return errors.New("the connection goes on")
	}
}

// ask sends a Request with payload and checks its Response.
func (p *peer) ask(id uint32, payload string) error {
	request := framing.Message{Type: framing.Request, ID: id, Payload: []byte(payload)}
	packet, err := framing.AppendPacket(nil, &request)
	if err != nil {
		return err
	}
	if _, err := p.w.Write(p.pack(nil, packet)); err != nil {
		return fmt.Errorf("%s: request %d: %w", p.transport, id, err)
	}
	answer, err := p.next()
	if err != nil {
		return fmt.Errorf("%s: answer to %d: %w", p.transport, id, err)
	}
	var m framing.Message
	if n, err := (framing.Packet{}).Decode(answer, 0, len(answer), &m); err != nil || n != len(answer) {
		return fmt.Errorf("%s: answer to %d: %d of %d bytes: %w", p.transport, id, n, len(answer), err)
	}
	if m.Type != framing.Response || m.ID != id || string(m.Payload) != payload {
		return fmt.Errorf("%s: answer to %d is %+v", p.transport, id, m)
	}
	return nil
}
