package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/wsupgrade"
)

// TestHazard25TLSIsVerifiedByDefault asks over tls and wss, whose server has an
// untrusted certificate: only a client that disables verification connects.
func TestHazard25TLSIsVerifiedByDefault(t *testing.T) {
	protocol := engine.TLS(engine.TLSConfig{SelfSigned: true})
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		_ = s.Reply(m, []byte(s.Transport()))
	})})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", protocol, engine.Packets(), wsupgrade.Path("/ws"))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(protocol.ServerConfig().Certificates[0].Leaf)
	for scheme, url := range map[string]string{"tls": "tls://" + l.Addr().String(), "wss": "wss://" + l.Addr().String() + "/ws"} {
		t.Run(scheme, func(t *testing.T) {
			var unknown x509.UnknownAuthorityError
			if _, err := Dial(context.Background(), url); !errors.As(err, &unknown) {
				t.Errorf("without any setting: %v", err)
			}
			for name, cfg := range map[string]*tls.Config{"its authority": {RootCAs: roots}, "insecure": {InsecureSkipVerify: true}} {
				c, err := Dial(context.Background(), url, WithTLS(cfg))
				if err != nil {
					t.Fatal(name, err)
				}
				if got, err := c.Request(context.Background(), []byte("on what?")); err != nil || string(got) != scheme {
					t.Errorf("%s: %q, %v", name, got, err)
				}
				if c.Session().Transport() != scheme || c.Session().TLS() == nil {
					t.Errorf("%s: %s, %v", name, c.Session().Transport(), c.Session().TLS())
				}
				big := strings.Repeat("x", 500_000)
				if _, err := c.Request(context.Background(), []byte(big)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				c.Close()
			}
		})
	}
}
