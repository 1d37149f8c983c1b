package quicbridge

import (
	"context"
	"crypto/tls"
	"net"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/quic-go/quic-go"
)

// tapped is a Protocol whose dialed connections a test can look into. They behave
// as accepted ones do.
type tapped struct {
	*Protocol
	conn *conn
}

func (p *tapped) Dial(ctx context.Context, host *engine.Host, addr string) (*engine.Port, error) {
	remote, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, err
	}
	socket, err := p.dialer.acquire(true)
	if err != nil {
		return nil, err
	}
	limits := host.Limits()
	config := p.config.quicConfig(&limits)
	q, err := socket.transport.Dial(ctx, remote, p.clientTLS("localhost"), config)
	if err != nil {
		p.dialer.release(socket)
		return nil, err
	}
	p.conn = newConn(q, host, &p.config, &limits)
	port, err := host.Open(p.conn, engine.OpenInfo{Remote: remote.AddrPort()})
	if err != nil {
		p.dialer.release(socket)
		return nil, err
	}
	go p.conn.run(port, func() { p.dialer.release(socket) })
	return port, nil
}

// tap makes a session whose connection the test can look into, and returns it with
// the peer's end, which is plain quic-go.
func tap(t *testing.T, ec engine.Config, peer *quic.Config) (*conn, *engine.Session, *quic.Conn) {
	t.Helper()
	if peer == nil {
		peer = &quic.Config{}
	}
	l, err := quic.ListenAddr("127.0.0.1:0",
		&tls.Config{Certificates: []tls.Certificate{developmentCertificate(t)}, NextProtos: []string{ALPN}}, peer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	e := engine.New(ec)
	t.Cleanup(func() { _ = e.Close() })
	p := &tapped{Protocol: New(Config{TLS: trust(t)})}
	session, err := e.Dial(t.Context(), l.Addr().String(), p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	q, err := l.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.CloseWithError(0, "") })
	return p.conn, session, q
}

// streamOf waits for c's stream of that handle.
func streamOf(t *testing.T, c *conn, handle uint64) *stream {
	t.Helper()
	var st *stream
	eventually(t, "the stream", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		st = c.find(handle)
		return st != nil
	})
	return st
}
