package engine_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// collect returns a callback that passes payloads on.
func collect(to chan<- string) func(*engine.Session, *framing.Message) {
	return func(_ *engine.Session, m *framing.Message) { to <- string(m.Payload) }
}

func TestTLSConfigIsChecked(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.pem")
	for name, c := range map[string]struct {
		cfg  engine.TLSConfig
		says string
	}{
		"nothing":           {engine.TLSConfig{}, "CertFile: no certificate"},
		"missing file":      {engine.TLSConfig{CertFile: missing, KeyFile: missing}, "CertFile: open"},
		"file without key":  {engine.TLSConfig{KeyFile: missing}, "CertFile is missing"},
		"no key":            {engine.TLSConfig{CertPEM: testCert}, "KeyPEM is missing"},
		"no certificate":    {engine.TLSConfig{KeyPEM: testKey}, "CertPEM is missing"},
		"files and bytes":   {engine.TLSConfig{CertPEM: testCert, KeyPEM: testKey, CertFile: missing}, "CertFile and CertPEM"},
		"key as cert":       {engine.TLSConfig{CertPEM: testKey, KeyPEM: testCert}, "CertPEM with KeyPEM"},
		"second":            {engine.TLSConfig{SelfSigned: true, Certificates: []engine.CertSource{{CertPEM: testCert}}}, "Certificates[0].KeyPEM"},
		"authorities":       {engine.TLSConfig{SelfSigned: true, ClientCAPEM: []byte("none")}, "ClientCAPEM holds no certificate"},
		"authority file":    {engine.TLSConfig{SelfSigned: true, ClientCAFile: missing}, "ClientCAFile: open"},
		"both authorities":  {engine.TLSConfig{SelfSigned: true, ClientCAFile: missing, ClientCAPEM: testCert}, "ClientCAFile and ClientCAPEM"},
		"client auth":       {engine.TLSConfig{SelfSigned: true, ClientAuth: 9}, "ClientAuth 9"},
		"old version":       {engine.TLSConfig{SelfSigned: true, MinVersion: tls.VersionTLS10}, "MinVersion 0x0301"},
		"versions crossing": {engine.TLSConfig{SelfSigned: true, MinVersion: tls.VersionTLS13, Config: &tls.Config{MaxVersion: tls.VersionTLS12}}, "Config.MaxVersion"},
	} {
		t.Run(name, func(t *testing.T) {
			e := engine.New(engine.Config{Handler: echo})
			defer func() { _ = e.Close() }()
			_, err := e.Listen("127.0.0.1:0", engine.TLS(c.cfg), engine.Packets())
			if err == nil || !strings.Contains(err.Error(), "TLSConfig."+c.says) {
				t.Errorf("%v doesn't say %q", err, c.says)
			}
		})
	}
	e := engine.New(engine.Config{Handler: echo})
	defer func() { _ = e.Close() }()
	if _, err := e.Listen("127.0.0.1:0", overTLS()); err == nil {
		t.Error("TLS over nothing")
	}
	if _, err := e.Listen("127.0.0.1:0", engine.DialTLS(engine.Packets(), nil)); err == nil {
		t.Error("listening by DialTLS")
	}
}

// shown is the first name of the certificate that the server at addr shows.
func shown(t *testing.T, addr, serverName string) string {
	t.Helper()
	c := dialTLS(t, addr, &tls.Config{ServerName: serverName, InsecureSkipVerify: true})
	defer func() { _ = c.Close() }()
	_, _ = c.Write(ping)
	expect(t, c, pong)
	return c.ConnectionState().PeerCertificates[0].Subject.CommonName
}

func TestTLSServerNames(t *testing.T) {
	aCert, aKey := testAuthority.issue("a.example")
	bCert, bKey := testAuthority.issue("b.example")
	_, addr := serve(t, engine.Config{Handler: echo}, engine.TLS(engine.TLSConfig{
		CertPEM: testCert, KeyPEM: testKey,
		Certificates: []engine.CertSource{{CertPEM: aCert, KeyPEM: aKey}, {CertPEM: bCert, KeyPEM: bKey}},
	}), engine.Packets())
	for name, want := range map[string]string{"a.example": "a.example", "b.example": "b.example", "c.example": "127.0.0.1", "": "127.0.0.1"} {
		if got := shown(t, addr, name); got != want {
			t.Errorf("%q was shown %q", name, got)
		}
	}
}

func TestTLSReload(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(cert, key []byte) {
		t.Helper()
		if err := os.WriteFile(certFile, cert, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(keyFile, key, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(testAuthority.issue("old.example"))
	p := engine.TLS(engine.TLSConfig{CertFile: certFile, KeyFile: keyFile})
	_, addr := serve(t, engine.Config{Handler: echo}, p, engine.Packets())
	before := dialTLS(t, addr, &tls.Config{InsecureSkipVerify: true})
	if name := shown(t, addr, ""); name != "old.example" {
		t.Fatal(name)
	}
	write([]byte("broken"), nil)
	if err := p.Reload(); err == nil {
		t.Fatal("reloaded a broken file")
	}
	if name := shown(t, addr, ""); name != "old.example" {
		t.Fatal(name)
	}
	write(testAuthority.issue("new.example"))
	if err := p.Reload(); err != nil {
		t.Fatal(err)
	}
	if name := shown(t, addr, ""); name != "new.example" {
		t.Fatal(name)
	}
	_, _ = before.Write(ping) // a session that was there goes on
	expect(t, before, pong)
}

func TestTLSSelfSignedIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	_, addr := serve(t, engine.Config{Handler: echo, Logger: slog.New(slog.NewTextHandler(&log, nil))},
		engine.TLS(engine.TLSConfig{SelfSigned: true}), engine.Packets())
	if !strings.Contains(log.String(), "development certificate") {
		t.Error("no warning: ", log.String())
	}
	if name := shown(t, addr, "localhost"); name != "Millrace development" {
		t.Error(name)
	}
}

func TestTLSClientCertificates(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		j := newJournal(reply)
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d}, engine.TLS(engine.TLSConfig{
			CertPEM: testCert, KeyPEM: testKey,
			ClientAuth: tls.RequireAndVerifyClientCert, ClientCAPEM: testAuthority.pem,
		}), engine.Packets())
		cert, key := testAuthority.issue("somebody")
		pair, _ := tls.X509KeyPair(cert, key)
		cfg := clientTLS(version)
		cfg.Certificates = []tls.Certificate{pair}
		c := dialTLS(t, addr, cfg)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		if got := j.session(t).TLS().PeerCertificates; len(got) != 1 || got[0].Subject.CommonName != "somebody" {
			t.Error(got)
		}
		nobody := tls.Client(dial(t, addr), clientTLS(version))
		_, _ = nobody.Write(ping) // with TLS 1.3 the refusal comes after the handshake
		if _, err := nobody.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "remote error: tls") {
			t.Error(err)
		}
		waitFor(t, "the refusal to be counted", func() bool { return e.Stats().Refused["tls_handshake"] == 1 })
	})
}

func TestTLSNextProtos(t *testing.T) {
	j := newJournal(reply)
	_, addr := serve(t, engine.Config{Handler: j}, engine.TLS(engine.TLSConfig{
		CertPEM: testCert, KeyPEM: testKey, NextProtos: []string{"x/1", "x/2"},
	}), engine.Packets())
	cfg := clientTLS(tls.VersionTLS13)
	cfg.NextProtos = []string{"x/2"}
	c := dialTLS(t, addr, cfg)
	_, _ = c.Write(ping)
	expect(t, c, pong)
	if got := j.session(t).TLS().NegotiatedProtocol; got != "x/2" {
		t.Error(got)
	}
	cfg = clientTLS(tls.VersionTLS13)
	cfg.NextProtos = []string{"y"}
	if err := tls.Client(dial(t, addr), cfg).Handshake(); err == nil {
		t.Error("served a client of other protocols")
	}
}

func TestTLSMinVersion(t *testing.T) {
	_, addr := serve(t, engine.Config{Handler: echo}, engine.TLS(engine.TLSConfig{
		CertPEM: testCert, KeyPEM: testKey, MinVersion: tls.VersionTLS13,
	}), engine.Packets())
	if err := tls.Client(dial(t, addr), clientTLS(tls.VersionTLS12)).Handshake(); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
	dialTLS(t, addr, clientTLS(tls.VersionTLS13))
}

func TestTLSConfigOfItsOwn(t *testing.T) {
	cert, key := testAuthority.issue("own.example")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	called := make(chan string, 10)
	_, addr := serve(t, engine.Config{Handler: echo}, engine.TLS(engine.TLSConfig{Config: &tls.Config{
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			called <- h.ServerName
			if h.ServerName == "panic.example" {
				panic("a callback's")
			}
			return &pair, nil
		},
	}}), engine.Packets())
	bad := tls.Client(dial(t, addr), &tls.Config{ServerName: "panic.example", InsecureSkipVerify: true})
	if err := bad.Handshake(); err == nil {
		t.Error("a handshake that panicked succeeded")
	}
	if name := shown(t, addr, "x.example"); name != "own.example" || <-called != "panic.example" || <-called != "x.example" {
		t.Error(name)
	}
	pool := x509.NewCertPool()
	pool.AddCert(testAuthority.cert)
	dialTLS(t, addr, &tls.Config{ServerName: "own.example", RootCAs: pool})
}
