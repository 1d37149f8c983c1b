package torture_test

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// hostile is a kind of malicious peer. visit makes one or more connections. It returns
// when they are closed, and fails the run if the server never ends them.
type hostile struct {
	name  string
	slow  bool // a visit lasts until one of the server's timeouts
	visit func(*run, *rand.Rand)
}

var hostiles = []hostile{
	{name: "garbage", slow: true, visit: visitGarbage},
	{name: "lying lengths", slow: true, visit: visitLies},
	{name: "slow loris", slow: true, visit: visitLoris},
	{name: "silent", slow: true, visit: visitSilent},
	{name: "unread replies", slow: true, visit: visitUnread},
	{name: "handler panic", visit: visitPanic},
	{name: "broken TLS", slow: true, visit: visitBrokenTLS},
	{name: "ping flood", visit: visitPings},
	{name: "fragment flood", visit: visitFragments},
	{name: "wrong frames", visit: visitWrongFrames},
	{name: "QUIC stuck streams", visit: visitStuckStreams},
	{name: "QUIC unread replies", slow: true, visit: visitUnreadStream},
	{name: "QUIC oversized packet", visit: visitHugePacket},
	{name: "QUIC vanished", slow: true, visit: visitVanished},
	{name: "QUIC half handshake", visit: visitHalfQUIC},
	{name: "garbage datagrams", visit: visitGarbageDatagrams},
}

// connect makes a connection for a hostile peer. It returns nil if that fails, which is
// reported as a failure of the server.
func (r *run) connect(c *rand.Rand) *net.TCPConn {
	conn, err := testkit.DialFrom(c.IntN(1000), r.server.addr)
	if err != nil {
		r.failf("the server can't be reached: %v", err)
		return nil
	}
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	return conn
}

// mustEnd reads until the server ends the connection, which it must do, and returns the
// bytes read.
func (r *run) mustEnd(conn net.Conn, who string) []byte {
	got, err := io.ReadAll(io.LimitReader(conn, 16<<20))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		r.failf("%s: the server doesn't end the connection", who)
	}
	return got
}

// drop closes conn, with a reset in half of the cases.
func drop(c *rand.Rand, conn *net.TCPConn) {
	if c.IntN(2) == 0 {
		_ = conn.SetLinger(0)
	}
	conn.Close()
}

// noise is n random bytes.
func noise(c *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	return b
}

// visitGarbage starts like one of the protocols, or like none, and continues with
// noise.
func visitGarbage(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	starts := []string{"", "\x01", "\x01\x00\x00", "\x16\x03", "\x16\x03\x01\x00\x05", "GET ", "GET /ws HTTP/1.1\r\n",
		"POST / HTTP/1.1\r\n\r\n", "\x80\x2e\x01", "\x00"}
	b := append([]byte(starts[c.IntN(len(starts))]), noise(c, 1+c.IntN(4<<10))...)
	_, _ = conn.Write(b)
	r.mustEnd(conn, "garbage")
}

// visitLies declares lengths above the limit, and lengths above the bytes it sends.
func visitLies(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	head := binary.BigEndian.AppendUint32([]byte{1, 0, 0, 0}, 1)
	switch c.IntN(5) {
	case 0:
		head = append(head, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0)
	case 1:
		head = append(head, 0xff, 0xff, 0, 1, 0, 0, 0, 0) // together too large
	case 2:
		head = append(head, 0, 0, 0, 0, 0xff, 0xff, 0, 0) // allowed, and never finished
	case 3:
		head = []byte{0x16, 3, 3, 0xff, 0xff}
	case 4:
		if !r.upgrade(conn) {
			return
		}
		head = []byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}
	}
	_, _ = conn.Write(head)
	_, _ = conn.Write(noise(c, c.IntN(60<<10)))
	r.mustEnd(conn, "lying lengths")
}

// visitLoris sends a request that never ends, a byte at a time.
func visitLoris(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	var reading sync.WaitGroup
	reading.Go(func() { r.mustEnd(conn, "slow loris") })
	defer reading.Wait()
	b := []byte("GET /ws HTTP/1.1\r\nHost: here\r\n")
	for i := 0; ; i++ {
		if i == len(b) {
			b = append(b, "X-Again: and again\r\n"...)
		}
		if _, err := conn.Write(b[i : i+1]); err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // its pace
	}
}

// visitSilent connects and sends nothing, or a few bytes and then nothing.
func visitSilent(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	if c.IntN(2) == 0 {
		_, _ = conn.Write([]byte{1})
	}
	r.mustEnd(conn, "silent")
}

// visitUnread sends requests without end, and never reads an answer.
func visitUnread(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	_ = conn.SetReadBuffer(4 << 10)
	wrap := func(b []byte) []byte { return b }
	if c.IntN(2) == 0 {
		if !r.upgrade(conn) {
			return
		}
		wrap = func(b []byte) []byte { return frame(0x82, b) }
	}
	one := wrap(request(1, make([]byte, 1<<10)))
	b := bytes.Repeat(one, 64)
	for range 1 << 10 { // 64 MiB
		if _, err := conn.Write(b); err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				r.failf("unread replies: the server neither reads nor ends the session")
			}
			return
		}
	}
	r.failf("unread replies: the server read 64 MiB of requests without a reader for the answers")
}

// visitPanic makes the handler panic.
func visitPanic(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	_, _ = conn.Write(request(1, appendPayload(nil, 1<<63, 0, opPanic, 0, headSize)))
	r.mustEnd(conn, "handler panic")
}

// clientHello is the start of a TLS handshake.
var clientHello = sync.OnceValue(func() []byte {
	near, far := net.Pipe()
	defer near.Close()
	go func() {
		_ = tls.Client(far, &tls.Config{ServerName: "localhost"}).Handshake()
		far.Close()
	}()
	b := make([]byte, 4<<10)
	n, _ := near.Read(b)
	return b[:n]
})

// visitBrokenTLS begins a TLS handshake and stops, or continues with noise.
func visitBrokenTLS(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	hello := clientHello()
	_, _ = conn.Write(hello[:1+c.IntN(len(hello))])
	if c.IntN(2) == 0 {
		_, _ = conn.Write(noise(c, 1+c.IntN(20<<10)))
	}
	r.mustEnd(conn, "broken TLS")
}

// request is a Request packet.
func request(id uint32, payload []byte) []byte {
	b, err := framing.AppendPacket(nil, &framing.Message{Type: framing.Request, ID: id, Payload: payload})
	if err != nil {
		panic(err)
	}
	return b
}

// upgradeRequest asks for a WebSocket; the key is that of RFC 6455.
const upgradeRequest = "GET /ws HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"

// upgrade makes a WebSocket of conn. If it can't, this is a failure of the server.
func (r *run) upgrade(conn net.Conn) bool {
	if _, err := io.WriteString(conn, upgradeRequest); err != nil {
		r.failf("upgrade: %v", err)
		return false
	}
	var got []byte
	for b := make([]byte, 1); !bytes.HasSuffix(got, []byte("\r\n\r\n")); got = append(got, b...) {
		if _, err := io.ReadFull(conn, b); err != nil {
			r.failf("upgrade: %v after %q; refused so far: %v", err, got, r.server.Stats().Refused)
			return false
		}
	}
	if !strings.HasPrefix(string(got), "HTTP/1.1 101 ") {
		r.failf("upgrade: %q", got)
		return false
	}
	return true
}

// frame is a masked frame whose mask is 0, with first as its first byte.
func frame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	return append(append(b, 0, 0, 0, 0), payload...)
}

// visitPings sends pings and reads no pong.
func visitPings(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	if !r.upgrade(conn) {
		return
	}
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	b := bytes.Repeat(frame(0x89, noise(c, c.IntN(126))), 500)
	for range 40 {
		if _, err := conn.Write(b); err != nil {
			return // the server has stopped reading, or ended the connection: both are right
		}
	}
}

// visitFragments sends one message in fragments without end. They are empty, or make
// the message too large.
func visitFragments(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	if !r.upgrade(conn) {
		return
	}
	_, _ = conn.Write(frame(0x02, nil))
	if c.IntN(2) == 0 {
		b := bytes.Repeat(frame(0x00, nil), 5_000)
		for range 20 {
			if _, err := conn.Write(b); err != nil {
				return
			}
		}
		return
	}
	piece := frame(0x00, noise(c, 1+c.IntN(2<<10)))
	for sent := 0; sent <= 4*limits.MaxMessageSize; sent += len(piece) {
		if _, err := conn.Write(piece); err != nil {
			return
		}
	}
	r.mustEnd(conn, "fragment flood")
}

// visitWrongFrames sends one forbidden frame. One kind is a compressed frame, which could
// be a decompression bomb.
func visitWrongFrames(r *run, c *rand.Rand) {
	conn := r.connect(c)
	if conn == nil {
		return
	}
	defer drop(c, conn)
	if !r.upgrade(conn) {
		return
	}
	packet := request(1, []byte("?"))
	wrong := [][]byte{
		{0x82, 1, 0},                     // not masked
		frame(0xc2, packet),              // compressed, without a negotiated extension
		frame(0x81, []byte("text")),      // text on a packet path
		frame(0x82, packet[:7]),          // part of a packet
		frame(0x82, append(packet, 1)),   // more than a packet
		frame(0x83, nil),                 // an opcode that doesn't exist
		frame(0x00, packet),              // a continuation without a start
		frame(0x09, nil),                 // a fragmented ping
		frame(0x89, make([]byte, 126)),   // a ping that is too long
		frame(0x88, []byte{3}),           // a Close with half a code
		frame(0x88, []byte{3, 232, 255}), // a Close whose reason isn't UTF-8
	}
	_, _ = conn.Write(wrong[c.IntN(len(wrong))])
	if got := r.mustEnd(conn, "wrong frames"); !bytes.Contains(got, []byte{0x88}) && len(got) > 0 {
		r.failf("wrong frames: no Close frame in % x", got)
	}
}
