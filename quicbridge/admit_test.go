package quicbridge

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// refusedEarly dials addr, which must answer with CONNECTION_REFUSED.
func refusedEarly(t *testing.T, addr string) {
	t.Helper()
	_, err := quic.DialAddr(t.Context(), addr, trust(t, ALPN), &quic.Config{HandshakeIdleTimeout: testPatience})
	var refused *quic.TransportError
	if !errors.As(err, &refused) || !refused.Remote || refused.ErrorCode != quic.ConnectionRefused {
		t.Fatalf("the connection ended with %v, want CONNECTION_REFUSED", err)
	}
}

// TestLimitsRefuseBeforeWork: a connection that the engine doesn't admit is refused
// with CONNECTION_REFUSED before a certificate is sent, and counted by its reason.
// It is admitted when there is space.
func TestLimitsRefuseBeforeWork(t *testing.T) {
	for reason, config := range map[string]engine.Config{
		"max_sessions":          {MaxSessions: 1},
		"max_sessions_per_addr": {MaxSessionsPerAddr: 1},
		"accept_rate":           {AcceptRate: 1},
	} {
		t.Run(reason, func(t *testing.T) {
			certificate := developmentCertificate(t)
			var shown atomic.Int32
			config.Handler = echo
			srv := serve(t, config, Config{TLS: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
				shown.Add(1)
				return &certificate, nil
			}}})
			q := raw(t, srv.addr, nil, ALPN)
			ask(t, q)
			before := shown.Load()
			if reason == "accept_rate" { // on a busy machine a second passes between any two
				eventually(t, "a refusal", func() bool { dialAtOnce(t, srv.addr, 5); return srv.Stats().Refused[reason] > 0 })
			} else {
				refusedEarly(t, srv.addr)
				if n := shown.Load(); n != before {
					t.Error("a certificate was shown to a refused client")
				}
			}
			if n := srv.Stats().Refused[reason]; n == 0 {
				t.Errorf("counted as %v", srv.Stats().Refused)
			}
			_ = q.CloseWithError(0, "")
			eventually(t, "the session to end", func() bool { return srv.Stats().Active == 0 })
			eventually(t, "room", func() bool {
				q, err := quic.DialAddr(t.Context(), srv.addr, trust(t, ALPN), nil)
				if err == nil {
					ask(t, q)
					_ = q.CloseWithError(0, "")
				}
				return err == nil
			})
		})
	}
}

// dialAtOnce makes n connections at the same time, which may be refused, and ends
// them.
func dialAtOnce(t *testing.T, addr string, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			if q, err := quic.DialAddr(t.Context(), addr, trust(t, ALPN), nil); err == nil {
				_ = q.CloseWithError(0, "")
			}
		})
	}
	wg.Wait()
}

// ask makes a request on a stream of its own.
func ask(t testing.TB, q *quic.Conn) {
	t.Helper()
	s := open(t, q)
	send(t, s, request(t, 1, "x"))
	expect(t, s, framing.Response, 1, "x")
}

// TestHazard13HandshakeBound: Config.MaxHandshakes is one bound for all transports.
// Beyond it new clients are refused until handshakes have ended.
func TestHazard13HandshakeBound(t *testing.T) {
	const most = 2
	// A hello is two packets. If a handshake ends between them, the second one
	// begins a handshake that its client has given up: that takes the whole
	// timeout.
	e := engine.New(engine.Config{Handler: echo, MaxHandshakes: most, SniffTimeout: -1, HandshakeTimeout: 4 * time.Second})
	l, err := e.Listen("127.0.0.1:0", engine.TLS(engine.TLSConfig{SelfSigned: true}), engine.Packets(), New(Config{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	addr := l.Addr().String()
	var silent []net.Conn
	for range most {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		silent = append(silent, c)
	}
	eventually(t, "the silent connections to be accepted", func() bool { return e.Stats().Active == most })
	refusedEarly(t, addr)
	if n := e.Stats().Refused["max_handshakes"]; n == 0 {
		t.Errorf("counted as %v", e.Stats().Refused)
	}
	_ = silent[0].Close()
	eventually(t, "room", func() bool {
		q, err := quic.DialAddr(t.Context(), addr, trust(t, ALPN), nil)
		if err == nil {
			ask(t, q)
			_ = q.CloseWithError(0, "")
		}
		return err == nil
	})
}

// TestHandshakesLeaveNothing: handshakes that fail, or time out, no longer count
// for any limit.
func TestHandshakesLeaveNothing(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo, MaxSessions: 3, HandshakeTimeout: 3 * time.Second}, Config{})
	t.Run("deaf", func(t *testing.T) {
		halfOpen(t, srv.addr, 2) // until the end of this
		eventually(t, "the handshakes to begin", func() bool { return endpointOf(t, srv).handshakes.Load() == 2 })
	})
	eventually(t, "the handshakes to end", func() bool {
		if _, err := quic.DialAddr(t.Context(), srv.addr, trust(t, "another protocol"), nil); err == nil {
			t.Fatal("a client of another protocol came in")
		}
		r := srv.Stats().Refused
		return r["handshake_timeout"] >= 2 && r["tls_handshake"] > 0 && endpointOf(t, srv).handshakes.Load() == 0
	})
	for range 3 {
		ask(t, raw(t, srv.addr, nil, ALPN))
	}
	refusedEarly(t, srv.addr)
}

// TestListenerTLSSelects: the configuration that TLSConfig.Config selects for a client
// counts for QUIC too, for example one that requires a certificate of the client.
func TestListenerTLSSelects(t *testing.T) {
	strict := engine.TLS(engine.TLSConfig{SelfSigned: true, ClientAuth: tls.RequireAnyClientCert})
	if err := strict.Validate(); err != nil {
		t.Fatal(err)
	}
	shared := engine.TLS(engine.TLSConfig{SelfSigned: true, Config: &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return strict.ServerConfig(), nil }}})
	e := engine.New(engine.Config{Handler: echo, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = e.Close() })
	l, err := e.Listen("127.0.0.1:0", engine.Packets(), shared, QUIC())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	q, err := quic.DialAddr(t.Context(), l.Addr().String(), trust(t, ALPN), nil)
	if err == nil { // in TLS 1.3 the client gets the alert after its own handshake
		err = closeError(t, q)
	}
	var alert *quic.TransportError
	if !errors.As(err, &alert) || !alert.ErrorCode.IsCryptoError() {
		t.Fatalf("without a certificate of its own the client got %v", err)
	}
}

// TestCertificateChanges: a chosen configuration counts for the next handshake.
func TestCertificateChanges(t *testing.T) {
	configs := [2]*tls.Config{}
	for i := range configs {
		p := engine.TLS(engine.TLSConfig{SelfSigned: true, ClientAuth: tls.ClientAuthType(i) * tls.RequireAnyClientCert})
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		configs[i] = p.ServerConfig()
	}
	var current atomic.Int32
	srv := serve(t, engine.Config{Handler: echo}, Config{TLS: &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return configs[current.Load()], nil }}})
	for range 2 {
		ask(t, raw(t, srv.addr, nil, ALPN))
	}
	current.Store(1)
	q, err := quic.DialAddr(t.Context(), srv.addr, trust(t, ALPN), nil)
	if err == nil { // in TLS 1.3 the client gets the alert after its own handshake
		err = closeError(t, q)
	}
	var alert *quic.TransportError
	if !errors.As(err, &alert) || !alert.ErrorCode.IsCryptoError() {
		t.Fatalf("without a certificate of its own the client got %v", err)
	}
	current.Store(0)
	ask(t, raw(t, srv.addr, nil, ALPN))
}

// TestHazard34UnprovenAddresses: where the engine counts addresses or connections,
// a client proves its address first. So packets with a forged sender use up neither
// the limit of its owner, nor a rate.
func TestHazard34UnprovenAddresses(t *testing.T) {
	for reason, config := range map[string]engine.Config{
		"max_sessions_per_addr": {MaxSessionsPerAddr: 1},
		"accept_rate":           {AcceptRate: 1},
	} {
		t.Run(reason, func(t *testing.T) {
			config.Handler = echo
			srv := serve(t, config, Config{})
			halfOpen(t, srv.addr, 8) // its replies, the Retry too, are lost
			ask(t, raw(t, srv.addr, nil, ALPN))
			if n := srv.Stats().Refused[reason]; n != 0 {
				t.Errorf("%d forged connections were counted", n)
			}
			if n := endpointOf(t, srv).handshakes.Load(); n != 0 {
				t.Errorf("%d handshakes are under way", n)
			}
		})
	}
}

// TestStatsListQUICAtOnce: a listener's transport is in the statistics before its
// first session.
func TestStatsListQUICAtOnce(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	if ts := srv.Stats().Transports; len(ts) != 1 || ts[0] != (engine.TransportStats{Name: "quic"}) {
		t.Errorf("the statistics list %+v", ts)
	}
}
