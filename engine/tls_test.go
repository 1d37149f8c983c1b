package engine_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

// authority signs certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
	pool *x509.CertPool
}

var testAuthority = newAuthority()

func newAuthority() *authority {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pool}
}

// issue returns a certificate and its key for names, addresses among them.
func (a *authority) issue(names ...string) (certPEM, keyPEM []byte) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<62))
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: names[0]},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		panic(err)
	}
	keyDER, _ := x509.MarshalPKCS8PrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

var testCert, testKey = testAuthority.issue("127.0.0.1", "localhost")

// overTLS is TLS with the test certificate.
func overTLS() *engine.TLSProtocol {
	return engine.TLS(engine.TLSConfig{CertPEM: testCert, KeyPEM: testKey})
}

// clientTLS trusts the test authority.
func clientTLS(version uint16) *tls.Config {
	return &tls.Config{RootCAs: testAuthority.pool, ServerName: "127.0.0.1", MinVersion: version, MaxVersion: version}
}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// eachTLS runs f for each dispatch mode and TLS version.
func eachTLS(t *testing.T, f func(t *testing.T, d engine.Dispatch, version uint16)) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		for name, v := range tlsVersions {
			t.Run(name, func(t *testing.T) { f(t, d, v) })
		}
	})
}

// dialTLS makes a handshake over a fresh connection to addr.
func dialTLS(t testing.TB, addr string, cfg *tls.Config) *tls.Conn {
	t.Helper()
	c := tls.Client(dial(t, addr), cfg)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}

// shredder splits the bytes that it writes to the socket into single bytes.
type shredder struct{ net.Conn }

func (s shredder) Write(b []byte) (int, error) {
	for i := range b {
		if _, err := s.Conn.Write(b[i : i+1]); err != nil {
			return i, err
		}
		if i%16 == 0 {
			time.Sleep(50 * time.Microsecond) // so that the pieces arrive apart
		}
	}
	return len(b), nil
}

func TestTLSAndPlainOnOneAddress(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		j := newJournal(reply)
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d}, overTLS(), hello{engine.Packets()}, engine.Packets())
		plain := dial(t, addr)
		_, _ = plain.Write(ping)
		expect(t, plain, pong)
		if s := j.session(t); s.Transport() != "tcp" || s.TLS() != nil {
			t.Error(s.Transport(), s.TLS())
		}
		c := dialTLS(t, addr, clientTLS(version))
		_, _ = c.Write(ping)
		expect(t, c, pong)
		s := j.session(t)
		if state := s.TLS(); s.Transport() != "tls" || state == nil || state.Version != version {
			t.Error(s.Transport(), state)
		}
		other := dialTLS(t, addr, clientTLS(version))
		_, _ = other.Write(append([]byte("hello"), ping...))
		expect(t, other, append([]byte("welcome"), pong...))
		if s := j.session(t); s.Transport() != "hello+tls" {
			t.Error(s.Transport())
		}
		names := map[string]int64{}
		for _, tr := range e.Stats().Transports {
			names[tr.Name] = tr.Active
		}
		if names["tcp"] != 1 || names["tls"] != 1 || names["hello+tls"] != 1 {
			t.Error(names)
		}
		_ = c.Close()
		if err := j.reason(t); !errors.Is(err, engine.ErrPeerClosed) || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}

func TestTLSInSingleBytes(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d}, overTLS(), engine.Packets())
		c := tls.Client(shredder{dial(t, addr)}, clientTLS(version))
		for range 5 {
			if _, err := c.Write(ping); err != nil {
				t.Fatal(err)
			}
			expect(t, c, pong)
		}
	})
}

func TestTLSPipelinedMessagesKeepTheirOrder(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d}, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(version))
		stream := numbered(100_000, 4)
		sent := make(chan error, 1)
		go func() {
			for b := stream; len(b) > 0; {
				n := min(len(b), 777)
				if _, err := c.Write(b[:n]); err != nil {
					sent <- err
					return
				}
				b = b[n:]
			}
			sent <- c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, stream) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(stream), err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	})
}

func TestTLSLargeMessages(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d}, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(version))
		stream := append(numbered(6, 1<<20), numbered(50, 20_000)...)
		go func() { _, _ = c.Write(stream) }()
		expect(t, c, stream)
	})
}

func TestHazard08FailedTLSHandshakeEndsItselfOnly(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		e, addr := serve(t, engine.Config{Handler: echo, Dispatch: d}, overTLS(), engine.Packets())
		stranger := tls.Client(dial(t, addr), &tls.Config{ServerName: "127.0.0.1", RootCAs: x509.NewCertPool()})
		if err := stranger.Handshake(); err == nil {
			t.Fatal("verified by nobody")
		}
		_ = stranger.Close()
		old := tls.Client(dial(t, addr), &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
		if err := old.Handshake(); err == nil {
			t.Fatal("TLS 1.1 was accepted")
		}
		garbage := dial(t, addr)
		_, _ = garbage.Write([]byte("\x16\x03\x01\x00\x05garbage"))
		answer, err := io.ReadAll(garbage)
		if err != nil || len(answer) != 7 || answer[0] != 0x15 {
			t.Errorf("answered %x, %v instead of an alert", answer, err)
		}
		// The client closes with bytes unread: its reset may overtake its alert.
		waitFor(t, "the failures to be counted", func() bool {
			r := e.Stats().Refused
			return r["tls_handshake"] >= 2 && r["tls_handshake"]+r["connection_lost"] == 3
		})
		c := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
		_, _ = c.Write(ping)
		expect(t, c, pong)
	})
}

func TestHazard09IdleTLSConnectionBlocksNobody(t *testing.T) {
	_, addr := serve(t, engine.Config{Handler: echo, Cores: 1}, overTLS(), engine.Packets())
	for range 50 {
		_, _ = dial(t, addr).Write([]byte{0x16, 0x03, 0x01, 0x02}) // the start of a ClientHello
		_, _ = dial(t, addr).Write([]byte{0x16})
	}
	c := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

func TestHazard13ManyHalfOpenTLSHandshakes(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, MaxHandshakes: 20, HandshakeTimeout: 300 * time.Millisecond},
		overTLS(), engine.Packets())
	for range 20 {
		_, _ = dial(t, addr).Write([]byte{0x16, 0x03, 0x01, 0x02})
	}
	waitFor(t, "the handshakes to begin", func() bool { return e.Stats().Active == 20 })
	if !refused(t, addr) {
		t.Fatal("a twenty-first handshake")
	}
	waitFor(t, "the handshakes to time out", func() bool { return e.Stats().Refused["handshake_timeout"] == 20 })
	c := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

func TestHazard15CloseLosesNothingOverTLS(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		j := newJournal(nil)
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, LingerTimeout: 5 * time.Second}, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(version))
		s := j.session(t)
		const n, size = 30, 100_000
		for range n {
			if err := s.Send(make([]byte, size)); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		got, err := io.ReadAll(c) // crypto/tls gives no io.EOF without close_notify
		if err != nil || len(got) != n*(size+16) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		_ = c.Close()
		if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestTLSTruncationIsToldApart(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(reply)
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d}, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
		_, _ = c.Write(ping)
		expect(t, c, pong)
		_ = c.NetConn().Close()
		if err := j.reason(t); !errors.Is(err, engine.ErrPeerClosed) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Error(err)
		}
	})
}

func TestTLSBadRecordIsAnsweredByAnAlert(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		j := newJournal(reply)
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d}, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(version))
		_, _ = c.Write(ping)
		expect(t, c, pong)
		_, _ = c.NetConn().Write(append([]byte{0x17, 0x03, 0x03, 0, 32}, make([]byte, 32)...))
		if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF || !bytes.Contains([]byte(err.Error()), []byte("bad record MAC")) {
			t.Error("the client got ", err)
		}
		if err := j.reason(t); !errors.Is(err, engine.ErrProtocol) {
			t.Error(err)
		}
	})
}

func TestTLSRequiredRefusesPlain(t *testing.T) {
	p := engine.TLS(engine.TLSConfig{CertPEM: testCert, KeyPEM: testKey, Required: true})
	e, addr := serve(t, engine.Config{Handler: echo, SniffTimeout: 100 * time.Millisecond}, p, engine.Packets())
	if !refused(t, addr) {
		t.Error("served in plain")
	}
	if b, err := io.ReadAll(dial(t, addr)); err != nil || len(b) != 0 {
		t.Error(b, err)
	}
	waitFor(t, "both to be counted", func() bool {
		r := e.Stats().Refused
		return r["protocol_error"] == 1 && r["handshake_timeout"] == 1
	})
	c := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

// TestTLSSilentClientGetsAPacketSession is for servers that speak first.
func TestTLSSilentClientGetsAPacketSession(t *testing.T) {
	first := engine.HandlerFuncs{Open: func(s *engine.Session) { _ = s.Send([]byte("first")) }}
	for _, protocols := range [][]engine.Protocol{
		{overTLS(), engine.Packets()},
		{overTLS(), hello{engine.Packets()}, engine.Packets()},
	} {
		_, addr := serve(t, engine.Config{Handler: first, SniffTimeout: 100 * time.Millisecond}, protocols...)
		for _, c := range []io.Reader{dialTLS(t, addr, clientTLS(tls.VersionTLS13)), dial(t, addr)} {
			b := make([]byte, 21)
			if _, err := io.ReadFull(c, b); err != nil || string(b[16:]) != "first" {
				t.Errorf("%q, %v", b, err)
			}
		}
	}
}

func TestTLSFlowControl(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		e, addr := serve(t, engine.Config{Handler: echo, Dispatch: d, Cores: 1, OutboxSoftMark: 64 << 10, RingSize: 64 << 10}, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(version))
		stream := numbered(3000, 10_000)
		sent := make(chan error, 1)
		go func() { _, err := c.Write(stream); sent <- err }()
		last := uint64(1)
		waitFor(t, "reading to stop", func() bool {
			now := e.Stats().BytesIn
			stopped := now == last && now > 100_000
			last = now
			time.Sleep(50 * time.Millisecond)
			return stopped
		})
		if last >= uint64(len(stream)) {
			t.Fatal("everything was read though nothing was collected")
		}
		got := make([]byte, len(stream))
		if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, stream) {
			t.Fatalf("%d bytes of %d, %v", n, len(stream), err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	})
}

func TestHazard25DialTLSVerifiesByDefault(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d}, overTLS(), hello{engine.Packets()}, engine.Packets())
		client, _ := serve(t, engine.Config{Handler: echo, Dispatch: d})
		var unknown x509.UnknownAuthorityError
		if _, err := client.Dial(context.Background(), addr, engine.DialTLS(engine.Packets(), nil)); !errors.As(err, &unknown) {
			t.Error(err)
		}
		var wrongName x509.HostnameError
		cfg := &tls.Config{RootCAs: testAuthority.pool, ServerName: "example.com"}
		if _, err := client.Dial(context.Background(), addr, engine.DialTLS(engine.Packets(), cfg)); !errors.As(err, &wrongName) {
			t.Error(err)
		}
	})
}

func TestDialTLS(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		server := newJournal(reply)
		server.HandlerFuncs.Open = func(s *engine.Session) { _ = s.Send([]byte("first")); server.opened <- s }
		_, addr := serve(t, engine.Config{Handler: server, Dispatch: d}, overTLS(), hello{engine.Packets()}, engine.Packets())
		for _, inner := range []engine.StreamProtocol{hello{engine.Packets()}, engine.Packets()} {
			got, client := make(chan string, 10), newJournal(nil)
			client.HandlerFuncs.Message = collect(got)
			e, _ := serve(t, engine.Config{Handler: client, Dispatch: d})
			s, err := e.Dial(context.Background(), addr, engine.DialTLS(inner, &tls.Config{RootCAs: testAuthority.pool, MinVersion: version, MaxVersion: version}))
			if err != nil {
				t.Fatal(err)
			}
			if s.TLS() == nil || s.TLS().Version != version {
				t.Error(s.TLS())
			}
			if err := s.Send(bytes.Repeat([]byte("x"), 300_000)); err != nil {
				t.Fatal(err)
			}
			if a, b := <-got, <-got; a != "first" || len(b) != 300_000 {
				t.Fatal(len(a), len(b))
			}
			s.Close()
			if err := client.reason(t); !errors.Is(err, engine.ErrClosed) {
				t.Error(err)
			}
			if err := server.reason(t); !errors.Is(err, engine.ErrPeerClosed) || errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
		}
	})
}
