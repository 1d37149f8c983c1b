package main

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
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/client"
	"github.com/millrace/millrace/internal/testkit"
)

// writePair writes a self-signed certificate of that name, and its key, as PEM
// files.
func writePair(t *testing.T, certFile, keyFile, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der},
		keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// newCertificate is writePair into a directory of its own.
func newCertificate(t *testing.T) (certFile, keyFile string) {
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writePair(t, certFile, keyFile, "first.example")
	return certFile, keyFile
}

// TestTLSEndpoints asks on each endpoint of the ready line.
func TestTLSEndpoints(t *testing.T) {
	cert, key := newCertificate(t)
	for _, args := range [][]string{{"--tls-self-signed"}, {"--tls-cert", cert, "--tls-key", key}} {
		endpoints := startEcho(t, args...)
		schemes := ""
		for _, u := range endpoints {
			scheme, _, _ := strings.Cut(u, "://")
			schemes += scheme + " "
			if strings.HasSuffix(u, "/echo") {
				continue // carries no packets
			}
			c, err := client.Dial(context.Background(), u, client.WithTLS(&tls.Config{InsecureSkipVerify: true}))
			if err != nil {
				t.Fatal(u, err)
			}
			if got, err := c.Request(context.Background(), []byte("ping")); err != nil || string(got) != "ping" {
				t.Errorf("%s: %q, %v", u, got, err)
			}
			c.Close()
		}
		if schemes != "tcp ws ws quic tls wss wss " {
			t.Error(schemes)
		}
	}
}

func TestTLSFlagsAreChecked(t *testing.T) {
	cert, key := newCertificate(t)
	for _, args := range [][]string{
		{"--tls-cert", cert}, {"--tls-key", key}, {"--tls-cert", cert, "--tls-key", cert},
		{"--tls-cert", cert, "--tls-key", key, "--tls-self-signed"}, {"--tls-cert", "missing", "--tls-key", key},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), args, &stdout, &stderr); code != exitMisused || !strings.Contains(stderr.String(), "--tls-") {
			t.Errorf("%q: exit %d, %s", args, code, stderr.String())
		}
	}
}

// TestHangupReadsTheCertificateAgain: TLS and QUIC use the certificate of the
// files, and the new one after SIGHUP.
func TestHangupReadsTheCertificateAgain(t *testing.T) {
	cert, key := newCertificate(t)
	endpoints := startEcho(t, "--tls-cert", cert, "--tls-key", key)
	for _, shown := range []func(*testing.T, string) string{shownByTLS, shownByQUIC} {
		if name := shown(t, testkit.HostPort(endpoints[0])); name != "first.example" {
			t.Fatal("shows ", name)
		}
	}
	writePair(t, cert, key, "second.example")
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	for _, shown := range []func(*testing.T, string) string{shownByTLS, shownByQUIC} {
		testkit.Eventually(t, func() bool { return shown(t, testkit.HostPort(endpoints[0])) == "second.example" }, "the second certificate")
	}
}

// shownByTLS returns the name on the certificate that a TLS client gets.
func shownByTLS(t *testing.T, addr string) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// shownByQUIC does the same for a QUIC client.
func shownByQUIC(t *testing.T, addr string) (name string) {
	t.Helper()
	c, err := client.Dial(context.Background(), "quic://"+addr, client.WithTLS(&tls.Config{
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			name = s.PeerCertificates[0].Subject.CommonName
			return nil
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	return name
}
