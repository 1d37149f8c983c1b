package quicbridge

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// endpoints are those that tests made, by their address.
var endpoints sync.Map

// watched is a Protocol that remembers its endpoints.
type watched struct{ *Protocol }

func (w watched) Listen(host *engine.Host, addr string) (engine.Endpoint, error) {
	e, err := w.Protocol.Listen(host, addr)
	if err == nil {
		endpoints.Store(e.Addr().String(), e)
	}
	return e, err
}

func endpointOf(t *testing.T, srv *server) *endpoint {
	t.Helper()
	e, ok := endpoints.Load(srv.addr)
	if !ok {
		t.Fatal("no endpoint at " + srv.addr)
	}
	return e.(*endpoint)
}

// TestHazard18BindErrors: a port that is taken, and an address that makes no
// sense, are errors of Listen.
func TestHazard18BindErrors(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	e := engine.New(engine.Config{Handler: echo})
	defer e.Close()
	for _, addr := range []string{socket.LocalAddr().String(), "127.0.0.1:nowhere", "no port"} {
		if _, err := e.Listen(addr, New(Config{})); err == nil {
			t.Errorf("Listen(%q) succeeded", addr)
		}
	}
	var taken *net.OpError
	if _, err := e.Listen(socket.LocalAddr().String(), New(Config{})); !errors.As(err, &taken) {
		t.Errorf("a taken port gives %v", err)
	}
}

// TestListenerClose: a stopped listener accepts no connection, and its sessions
// continue.
func TestListenerClose(t *testing.T) {
	e := engine.New(engine.Config{Handler: echo})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", New(Config{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	s := open(t, raw(t, addr, nil, ALPN))
	send(t, s, request(t, 1, "before"))
	expect(t, s, framing.Response, 1, "before")
	l.Close()
	send(t, s, request(t, 2, "after"))
	expect(t, s, framing.Response, 2, "after")
	c := newClient(t, engine.Config{HandshakeTimeout: 500 * time.Millisecond}, Config{})
	if _, err := c.Dial(t.Context(), addr, c.protocol); err == nil {
		t.Fatal("a closed listener accepted a connection")
	}
}

// TestEngineRefuses: a connection that the engine doesn't admit is told so.
func TestEngineRefuses(t *testing.T) {
	for _, c := range []struct {
		reason error
		code   Code
	}{{engine.ErrShutdown, CodeGoingAway}, {fmt.Errorf("%w: full", engine.ErrRefused), CodeRefused}} {
		if code := closeCode(c.reason); code != c.code {
			t.Errorf("%v has the code %d", c.reason, code)
		}
	}
}

// TestManyConnections: connections come at once, and all get in.
func TestManyConnections(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	c := newClient(t, engine.Config{}, Config{})
	var wg sync.WaitGroup
	const n = 25 // fewer than quic-go's queue of 32 connections to accept
	for i := range n {
		wg.Go(func() {
			s, err := c.Dial(t.Context(), srv.addr, c.protocol)
			if err != nil {
				t.Error(err)
				return
			}
			_ = s.SendMessage(&framing.Message{Type: framing.Request, ID: uint32(i)})
		})
	}
	wg.Wait()
	c.await(t, "the replies", func() bool { return len(c.got) == n })
	if a := srv.Stats().Active; a != n {
		t.Fatalf("%d sessions are active", a)
	}
}

// TestServerLost: a server that is gone without a word is noticed by the
// client's idle timeout, one that has restarted by its stateless reset.
func TestServerLost(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	q := raw(t, srv.addr, &quic.Config{MaxIdleTimeout: 300 * time.Millisecond}, ALPN)
	send(t, open(t, q), request(t, 1, strings.Repeat("x", 10)))
	var idle *quic.IdleTimeoutError
	if err := closeError(t, q); !errors.As(err, &idle) {
		t.Fatalf("an idle connection ended with %v", err)
	}
}
