package engine_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// forger makes TLS 1.3 records that crypto/tls has no call for, by the secret that
// a handshake wrote to its key log.
type forger struct {
	hash   func() hash.Hash
	key    int // bytes
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// newForger goes on where c has written nothing yet. label names its side's line
// of the key log. It returns nil for a suite that it doesn't know, which is chosen
// where the processor has no instructions for AES.
func newForger(c *tls.Conn, log *bytes.Buffer, label string) *forger {
	f := &forger{}
	switch c.ConnectionState().CipherSuite {
	case tls.TLS_AES_128_GCM_SHA256:
		f.hash, f.key = sha256.New, 16
	case tls.TLS_AES_256_GCM_SHA384:
		f.hash, f.key = sha512.New384, 32
	default:
		return nil
	}
	for line := range strings.Lines(log.String()) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == label {
			f.secret, _ = hex.DecodeString(fields[2])
		}
	}
	f.useSecret()
	return f
}

// expand is HKDF-Expand-Label without a context (RFC 8446 section 7.1).
func (f *forger) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := string([]byte{byte(n >> 8), byte(n), byte(len(label))}) + label + "\x00"
	b, err := hkdf.Expand(f.hash, f.secret, info, n)
	if err != nil {
		panic(err)
	}
	return b
}

func (f *forger) useSecret() {
	block, err := aes.NewCipher(f.expand("key", f.key))
	if err != nil {
		panic(err)
	}
	f.aead, _ = cipher.NewGCM(block)
	f.iv, f.seq = f.expand("iv", f.aead.NonceSize()), 0
}

// record appends a record of that content type.
func (f *forger) record(dst []byte, contentType byte, content []byte) []byte {
	nonce := bytes.Clone(f.iv)
	tail := nonce[len(nonce)-8:]
	binary.BigEndian.PutUint64(tail, binary.BigEndian.Uint64(tail)^f.seq)
	f.seq++
	n := len(content) + 1 + f.aead.Overhead()
	head := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return f.aead.Seal(append(dst, head...), nonce, append(bytes.Clone(content), contentType), head)
}

// keyUpdates appends n requests for a KeyUpdate (RFC 8446 section 4.6.3), and a
// packet behind each ten: crypto/tls takes sixteen without data at most.
func (f *forger) keyUpdates(n int) (b []byte, packets int) {
	const handshake, applicationData = 22, 23
	for i := range n {
		b = f.record(b, handshake, []byte{24, 0, 0, 1, 1})
		f.secret = f.expand("traffic upd", f.hash().Size())
		f.useSecret()
		if i%10 == 9 {
			b = f.record(b, applicationData, packet(&framing.Message{}))
			packets++
		}
	}
	return b, packets
}

// dialNarrow connects with a small receive buffer.
func dialNarrow(t *testing.T, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) })
	}}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestTLSAnswersStopTheReading has a client ask for KeyUpdates and read none: it
// isn't read any more, and goes on when it has collected them.
func TestTLSAnswersStopTheReading(t *testing.T) {
	const updates = 12_000
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			if m.Type == framing.Request {
				_ = s.Reply(m, m.Payload) // the neighbor's
			}
		})
		cfg := engine.Config{Handler: j, Dispatch: d, ReadBufferSize: 4 << 10, OutboxSoftMark: 8 << 10, OutboxLimit: 8 << 10,
			MaxMessageSize: 4 << 10, Socket: engine.SocketOptions{WriteBuffer: 4 << 10}}
		e, addr, neighbor := withNeighbor(t, cfg, overTLS(), engine.Packets())
		raw := dialNarrow(t, addr)
		var log bytes.Buffer
		client := clientTLS(tls.VersionTLS13)
		client.KeyLogWriter = &log
		c := tls.Client(raw, client)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		f := newForger(c, &log, "CLIENT_TRAFFIC_SECRET_0")
		if f == nil {
			t.Skip("no AES")
		}
		flood, packets := f.keyUpdates(updates)
		before := e.Stats()
		var writing sync.WaitGroup
		writing.Go(func() { _, _ = raw.Write(flood) })
		waitFor(t, "the first bytes", func() bool { return e.Stats().BytesIn > before.BytesIn })
		const turns = 500
		for range turns {
			_, _ = neighbor.Write(ping)
			expect(t, neighbor, pong)
		}
		if n := e.Stats().BytesIn - before.BytesIn - turns*uint64(len(ping)); n > uint64(len(flood))/2 {
			t.Errorf("%d of %d bytes were read from a peer that reads nothing", n, len(flood))
		}
		if len(j.reasons) > 0 {
			t.Fatal("it was closed: ", <-j.reasons)
		}
		writing.Go(func() { _, _ = io.Copy(io.Discard, raw) })
		want := before.MessagesIn + turns + uint64(packets)
		waitFor(t, "the rest to be read", func() bool { return e.Stats().MessagesIn == want })
		_ = raw.Close()
		writing.Wait()
	})
}

// TestTLSAnswersOfADialedSessionAreBounded has a server do that to a dialed
// session, which is always read: it is closed.
func TestTLSAnswersOfADialedSessionAreBounded(t *testing.T) {
	const updates = 12_000
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	cert, err := tls.X509KeyPair(testCert, testKey)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	ended := make(chan struct{})
	unknown := false // the server's until served
	go func() {
		defer close(served)
		raw, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = raw.Close() }()
		_ = raw.(*net.TCPConn).SetReadBuffer(4 << 10)
		var log bytes.Buffer
		c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}, KeyLogWriter: &log, SessionTicketsDisabled: true,
			MinVersion: tls.VersionTLS13})
		if err := c.Handshake(); err != nil {
			t.Error(err)
			return
		}
		f := newForger(c, &log, "SERVER_TRAFFIC_SECRET_0")
		if unknown = f == nil; unknown {
			return
		}
		flood, _ := f.keyUpdates(updates)
		_, _ = raw.Write(flood)
		<-ended
	}()
	j := newJournal(func(*engine.Session, *framing.Message) {})
	e, _ := serve(t, engine.Config{Handler: j, Cores: 1, OutboxSoftMark: 8 << 10, OutboxLimit: 8 << 10, MaxMessageSize: 4 << 10,
		Socket: engine.SocketOptions{WriteBuffer: 4 << 10}})
	if _, err := e.Dial(context.Background(), l.Addr().String(), engine.DialTLS(engine.Packets(), clientTLS(tls.VersionTLS13))); err != nil {
		t.Fatal(err)
	}
	err = j.reason(t)
	close(ended)
	if <-served; unknown {
		t.Skip("no AES")
	}
	if !errors.Is(err, engine.ErrSlowConsumer) {
		t.Error(err)
	}
}
