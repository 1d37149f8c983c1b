package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestEveryTransport asks a server at the default URLs, but for the port.
func TestEveryTransport(t *testing.T) {
	_, addr := serve.Start(t, engine.Config{Handler: serve.Echo}, engine.Packets(), wsupgrade.Path("/ws"), quicbridge.QUIC(),
		engine.TLS(engine.TLSConfig{SelfSigned: true}))
	for _, url := range urls {
		url = strings.Replace(url, "127.0.0.1:8001", addr, 1)
		var out strings.Builder
		if err := ask(testkit.Context(t), &out, url, &tls.Config{InsecureSkipVerify: true}); err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		var want string
		scheme, _, _ := strings.Cut(url, ":")
		for i := range 3 {
			want += fmt.Sprintf("%s from %s: question %d\n", scheme, addr, i)
		}
		if out.String() != want {
			t.Errorf("%s: got %q, want %q", url, out.String(), want)
		}
	}
}

func TestUnknownAuthority(t *testing.T) {
	_, addr := serve.Start(t, engine.Config{Handler: serve.Echo}, engine.Packets(), engine.TLS(engine.TLSConfig{SelfSigned: true}))
	var unknown *tls.CertificateVerificationError
	if err := ask(testkit.Context(t), t.Output(), "tls://"+addr, &tls.Config{}); !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
}

// TestInterrupt: the client ends while it waits for an answer.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	_, addr := serve.Start(t, engine.Config{Handler: engine.HandlerFunc(func(*engine.Session, *engine.Message) { cancel() })})
	if err := ask(ctx, t.Output(), "tcp://"+addr, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
