package quicbridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// dialError dials and expects to fail.
func dialError(t *testing.T, ctx context.Context, addr string, qc Config) error {
	t.Helper()
	c := newClient(t, engine.Config{}, qc)
	s, err := c.Dial(ctx, addr, c.protocol)
	if err == nil {
		s.Abort(nil)
		t.Fatalf("dialing %s succeeded", addr)
	}
	d := &c.protocol.dialer
	if d.v4 != nil || d.v6 != nil {
		t.Error("a socket is left behind")
	}
	return err
}

// TestHazard25Verification: an untrusted certificate, or one for another name, is
// refused unless the caller disables verification.
func TestHazard25Verification(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	var unknown x509.UnknownAuthorityError
	if err := dialError(t, t.Context(), srv.addr, Config{TLS: &tls.Config{}}); !errors.As(err, &unknown) || !errors.Is(err, engine.ErrProtocol) {
		t.Errorf("an unknown authority: %v", err)
	}
	other := trust(t)
	other.ServerName = "example.org"
	var foreign x509.HostnameError
	if err := dialError(t, t.Context(), srv.addr, Config{TLS: other}); !errors.As(err, &foreign) || engine.Retryable(err) {
		t.Errorf("another name: %v", err)
	}
	byAddress := trust(t)
	byAddress.ServerName = "" // the dialed address is verified then
	for _, config := range []*tls.Config{byAddress, {InsecureSkipVerify: true}} {
		newClient(t, engine.Config{}, Config{TLS: config}).dial(t, srv.addr)
	}
}

// TestDialErrors tells them apart.
func TestDialErrors(t *testing.T) {
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := dialError(t, ctx, silent.LocalAddr().String(), Config{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("nobody answers: %v", err)
	}
	given, giveUp := context.WithCancelCause(t.Context())
	giveUp(errGaveUp)
	if err := dialError(t, given, silent.LocalAddr().String(), Config{}); !errors.Is(err, errGaveUp) {
		t.Errorf("cancelled: %v", err)
	}
	certificate := developmentCertificate(t)
	h3, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h3"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer h3.Close()
	var alert *quic.TransportError
	if err := dialError(t, t.Context(), h3.Addr().String(), Config{}); !errors.Is(err, engine.ErrProtocol) || !errors.As(err, &alert) {
		t.Errorf("no common ALPN: %v", err)
	}
	for _, addr := range []string{"no port", "127.0.0.1:no-such-service", "host.invalid:1"} {
		_ = dialError(t, t.Context(), addr, Config{})
	}
}

// TestDialRefused: a listener that refuses before the handshake is told apart.
func TestDialRefused(t *testing.T) {
	certificate := developmentCertificate(t)
	l, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{ALPN}},
		&quic.Config{GetConfigForClient: func(*quic.ClientInfo) (*quic.Config, error) { return nil, errors.New("full") }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := dialError(t, t.Context(), l.Addr().String(), Config{}); !errors.Is(err, engine.ErrRefused) || !engine.Retryable(err) {
		t.Errorf("got %v", err)
	}
}

// TestDialSharesSockets: one socket for an address family, as long as it is used.
func TestDialSharesSockets(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	c := newClient(t, engine.Config{}, Config{})
	a, b := c.dial(t, srv.addr), c.dial(t, strings.Replace(srv.addr, "127.0.0.1", "localhost", 1))
	if a.LocalAddr().Port() != b.LocalAddr().Port() || a.LocalAddr().Port() == 0 {
		t.Fatalf("local addresses %v and %v", a.LocalAddr(), b.LocalAddr())
	}
	a.Close()
	c.reason(t)
	if err := b.SendMessage(&framing.Message{Type: framing.Request, ID: 1}); err != nil {
		t.Fatal(err)
	}
	c.await(t, "the reply", func() bool { return len(c.got) == 1 })
}

// TestDialIPv6 needs a machine that has it.
func TestDialIPv6(t *testing.T) {
	probe, err := net.ListenPacket("udp6", "[::1]:0")
	if err != nil {
		t.Skip(err)
	}
	_ = probe.Close()
	e := engine.New(engine.Config{Handler: echo})
	defer e.Close()
	l, err := e.Listen("[::1]:0", New(Config{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, engine.Config{}, Config{})
	s := c.dial(t, l.Addr().String())
	if err := s.SendMessage(&framing.Message{Type: framing.Request, ID: 1}); err != nil {
		t.Fatal(err)
	}
	c.await(t, "the reply", func() bool { return len(c.got) == 1 })
}

// TestDialedStreamWaitsForCredit: a server that grants one stream too few delays
// messages, and blocks no caller.
func TestDialedStreamWaitsForCredit(t *testing.T) {
	certificate := developmentCertificate(t)
	l, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{ALPN}},
		&quic.Config{MaxIncomingStreams: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newClient(t, engine.Config{}, Config{})
	s := c.dial(t, l.Addr().String())
	q, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Send([]byte("one"))
	first, err := q.AcceptStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	expect(t, first, framing.OneWay, 1, "one")
	_ = first.Close()
	expectEOF(t, first) // the client finishes a stream that the server has finished
	if err := s.Send([]byte("two")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	second, err := q.AcceptStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	expect(t, second, framing.OneWay, 2, "two")
}

// TestServerUniStream: a dialed session grants none, and a server that opens one
// nevertheless can't.
func TestServerUniStream(t *testing.T) {
	certificate := developmentCertificate(t)
	l, err := quic.ListenAddr("127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{ALPN}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	newClient(t, engine.Config{}, Config{}).dial(t, l.Addr().String())
	q, err := l.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var limit *quic.StreamLimitReachedError
	if _, err := q.OpenUniStream(); !errors.As(err, &limit) {
		t.Errorf("the server opened a unidirectional stream: %v", err)
	}
}

var errGaveUp = errors.New("gave up")
