package client

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// hubUses is how many clients the hub of the default limits has; nil and 0 without
// one.
func hubUses() (h *hub, uses int) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if h = shared.hubs[Limits{}]; h != nil {
		uses = h.uses
	}
	return h, uses
}

// All clients share one engine, which ends with the last of them.
func TestClientsShareOneEngine(t *testing.T) {
	srv := newServer(t, serve.Echo, engine.Config{})
	var clients []*Client
	for _, transport := range transports {
		clients = append(clients, dialClient(t, srv.url(transport)))
	}
	for i, c := range clients {
		if c.Session().Engine() != clients[0].Session().Engine() {
			t.Error("two clients have two engines")
		}
		if h, uses := hubUses(); h != c.hub || uses != len(clients)-i {
			t.Errorf("%d uses of the hub, want %d", uses, len(clients)-i)
		}
		c.Close()
	}
	if h, uses := hubUses(); h != nil || uses != 0 {
		t.Errorf("after the last client there are a hub %p and %d uses", h, uses)
	}
	next := dialClient(t, srv.url("tcp"))
	if next.hub == clients[0].hub {
		t.Error("the next client got the closed hub")
	}
	if _, err := next.Request(testkit.Context(t), nil); err != nil {
		t.Error(err)
	}
}

// A client whose session ended by itself keeps nothing alive, closed or not.
func TestEndedClientLeavesTheHub(t *testing.T) {
	overAll(t, serve.Echo, func(t *testing.T, srv *server, url string) {
		c, err := Dial(testkit.Context(t), url, WithTLS(testTLS().client))
		if err != nil {
			t.Fatal(err)
		}
		testkit.Receive(t, srv.opened, "the session").Close()
		testkit.Receive(t, c.gone, "the end of the hub")
		if h, uses := hubUses(); h != nil || uses != 0 {
			t.Errorf("there are a hub %p and %d uses", h, uses)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if !errors.Is(c.Err(), engine.ErrPeerClosed) {
			t.Errorf("Err is %v, want the peer's close", c.Err())
		}
	})
}

// A failed Dial returns the reason, and leaves no resources.
func TestDialFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := l.Addr().String()
	l.Close()
	for _, url := range []string{"tcp://" + free, "ws://" + free + "/ws"} {
		if _, err := Dial(testkit.Context(t), url); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: got %v, want ECONNREFUSED", url, err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	srv := newServer(t, serve.Echo, engine.Config{})
	for _, transport := range transports {
		if _, err := Dial(ended, srv.url(transport), WithTLS(testTLS().client)); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", transport, err)
		}
	}
	if _, err := Dial(testkit.Context(t), "ws://"+srv.addr["ws"]+"/elsewhere"); !errors.Is(err, engine.ErrRefused) {
		t.Errorf("a path that the server doesn't have: got %v, want ErrRefused", err)
	}
	if h, uses := hubUses(); h != nil || uses != 0 {
		t.Errorf("after failed dials there are a hub %p and %d uses", h, uses)
	}
}

// A server that takes the first bytes and says nothing holds Dial until its
// context ends.
func TestDialEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	for url, heard := range map[string]func() error{
		"ws://" + l.Addr().String() + "/ws": func() error {
			conn, err := l.Accept()
			if err == nil {
				t.Cleanup(func() { conn.Close() })
				_, err = conn.Read(make([]byte, 1))
			}
			return err
		},
		"quic://" + packets.LocalAddr().String(): func() error {
			_, _, err := packets.ReadFrom(make([]byte, 2048))
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error, 1)
		go func() {
			_, err := Dial(ctx, url)
			result <- err
		}()
		if err := heard(); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := testkit.Receive(t, result, "the end of Dial"); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, want context.Canceled", url, err)
		}
	}
}

// Certificates are verified unless the caller says otherwise.
func TestHazard25CertificateIsVerified(t *testing.T) {
	srv := newServer(t, serve.Echo, engine.Config{})
	_, err := Dial(testkit.Context(t), srv.url("quic"))
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) && (err == nil || !strings.Contains(err.Error(), "certificate")) {
		t.Errorf("got %v, want an error about the certificate", err)
	}
	if h, uses := hubUses(); h != nil || uses != 0 {
		t.Errorf("after a failed dial there are a hub %p and %d uses", h, uses)
	}
}
