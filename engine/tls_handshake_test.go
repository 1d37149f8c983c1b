package engine_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

// largeChain is a client certificate with a chain of so many bytes.
func largeChain(t *testing.T, size int) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotAfter: time.Now().Add(time.Hour)}
	leaf, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	template.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: make([]byte, size)}}
	above, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{leaf, above}, PrivateKey: key}
}

// secondWrite is a connection that calls before its second write, and after the
// first piece of it.
type secondWrite struct {
	net.Conn
	writes        int
	piece         int
	before, after func()
}

func (c *secondWrite) Write(b []byte) (int, error) {
	if c.writes++; c.writes != 2 {
		return c.Conn.Write(b)
	}
	c.before()
	n, err := c.Conn.Write(b[:c.piece])
	c.after()
	if err != nil {
		return n, err
	}
	n, err = c.Conn.Write(b[c.piece:])
	return c.piece + n, err
}

// TestHazard30LargeTLSHandshakeIsReadOn has more input for the handshake in the
// socket than one read takes, and as much as may wait for it.
func TestHazard30LargeTLSHandshakeIsReadOn(t *testing.T) {
	chain := largeChain(t, 200<<10)
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		held := &slowAccept{in: make(chan struct{}), out: make(chan struct{})}
		secure := engine.TLS(engine.TLSConfig{CertPEM: testCert, KeyPEM: testKey, ClientAuth: tls.RequireAnyClientCert})
		e, addr := serve(t, engine.Config{Handler: echo, Dispatch: d, Cores: 1, ReadBufferSize: 64 << 10,
			Socket: engine.SocketOptions{ReadBuffer: 1 << 20}}, secure, engine.Packets())
		l, err := e.Listen("127.0.0.1:0", held)
		if err != nil {
			t.Fatal(err)
		}
		raw := dial(t, addr)
		_ = raw.SetWriteBuffer(1 << 20)
		conn := &secondWrite{Conn: raw, piece: 80 << 10, before: func() {
			dial(t, l.Addr().String())
			<-held.in // the loop stands in Accept
		}, after: func() { close(held.out) }}
		cfg := clientTLS(tls.VersionTLS13)
		cfg.Certificates = []tls.Certificate{chain}
		c := tls.Client(conn, cfg)
		if _, err := c.Write(ping); err != nil {
			t.Fatal(err)
		}
		expect(t, c, pong)
	})
}

// TestTLSHandshakeInputIsBounded floods a handshake that waits for something else.
func TestTLSHandshakeInputIsBounded(t *testing.T) {
	const bound, flood = 64 << 10, 16 << 20
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		waiting, verify := make(chan struct{}), make(chan struct{})
		secure := engine.TLS(engine.TLSConfig{CertPEM: testCert, KeyPEM: testKey, Config: &tls.Config{
			VerifyConnection: func(tls.ConnectionState) error { close(waiting); <-verify; return nil }}})
		cfg := engine.Config{Handler: echo, Dispatch: d, HandshakeTimeout: time.Hour}
		e, addr, neighbor := withNeighbor(t, cfg, secure, engine.Packets())
		raw := dial(t, addr)
		if err := tls.Client(raw, clientTLS(tls.VersionTLS13)).Handshake(); err != nil {
			t.Fatal(err)
		}
		<-waiting
		var before = e.Stats().BytesIn
		go func() { _, _ = raw.Write(make([]byte, flood)) }()
		waitFor(t, "much of it", func() bool { return e.Stats().BytesIn-before >= bound })
		const turns = 500
		for range turns {
			_, _ = neighbor.Write(ping)
			expect(t, neighbor, pong) // the loop has come round
		}
		if n := e.Stats().BytesIn - before - turns*uint64(len(ping)); n > bound+engine.DefaultReadBufferSize {
			t.Errorf("%d bytes were read for a handshake that waits", n)
		}
		_ = raw.Close()
		close(verify)
	})
}
