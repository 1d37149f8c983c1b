package quicbridge

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		field string
		bad   Config
	}{
		{"MaxStreams", Config{MaxStreams: -1}},
		{"MaxStreams", Config{MaxStreams: 10_001}},
		{"MaxIncomingUni", Config{MaxIncomingUni: -1}},
		{"MaxIncomingUni", Config{MaxIncomingUni: 10_001}},
		{"IdleTimeout", Config{IdleTimeout: -1}},
		{"IdleTimeout", Config{IdleTimeout: time.Millisecond}},
		{"IdleTimeout", Config{IdleTimeout: 25 * time.Hour}},
		{"InitialWindow", Config{InitialWindow: 1}},
		{"InitialWindow", Config{InitialWindow: 1<<30 + 1}},
		{"MaxWindow", Config{MaxWindow: 1}},
		{"ReadMemory", Config{ReadMemory: 1}},
		{"ReadMemory", Config{ReadMemory: 1<<30 + 1}},
		{"MaxWindow", Config{InitialWindow: 1 << 20, MaxWindow: 1 << 19}},
	} {
		if err := c.bad.Validate(); err == nil || !strings.Contains(err.Error(), "Config."+c.field) {
			t.Errorf("%+v: %v, want an error about %s", c.bad, err, c.field)
		}
		e := engine.New(engine.Config{Handler: echo})
		if _, err := e.Listen("127.0.0.1:0", New(c.bad)); err == nil {
			t.Errorf("Listen took %+v", c.bad)
		}
		if _, err := e.Dial(t.Context(), "127.0.0.1:1", New(c.bad)); err == nil || !strings.Contains(err.Error(), c.field) {
			t.Errorf("Dial took %+v: %v", c.bad, err)
		}
		_ = e.Close()
	}
	for _, good := range []Config{{}, {KeepAlive: -1}, {InitialWindow: 8 << 20}, {MaxStreams: 1, MaxIncomingUni: 1}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
}

// TestConfigStreams: a peer may have so many streams open, and no more.
func TestConfigStreams(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{MaxStreams: 3, MaxIncomingUni: 5})
	q := raw(t, srv.addr, nil, ALPN)
	var limit *quic.StreamLimitReachedError
	for i := range 4 {
		if _, err := q.OpenStream(); (i < 3) != (err == nil) || err != nil && !errors.As(err, &limit) {
			t.Errorf("stream %d: %v", i, err)
		}
	}
	q = raw(t, srv.addr, nil)
	for i := range 6 {
		if _, err := q.OpenUniStream(); (i < 5) != (err == nil) || err != nil && !errors.As(err, &limit) {
			t.Errorf("unidirectional stream %d: %v", i, err)
		}
	}
}

// TestConfigIdleTimeout: a silent connection ends, by this setting or the
// engine's, whichever is shorter.
func TestConfigIdleTimeout(t *testing.T) {
	for _, c := range []struct{ ours, engines time.Duration }{
		{200 * time.Millisecond, 0}, {time.Hour, 200 * time.Millisecond},
	} {
		var r recorder
		srv := serve(t, engine.Config{Handler: &r, IdleTimeout: c.engines}, Config{IdleTimeout: c.ours})
		raw(t, srv.addr, &quic.Config{MaxIdleTimeout: time.Hour}, ALPN)
		if err := r.reason(t); !errors.Is(err, engine.ErrIdleTimeout) {
			t.Fatalf("OnClose got %v", err)
		}
	}
}

// TestConfigKeepAlive: a dialed session outlives the idle timeout, unless told
// not to.
func TestConfigKeepAlive(t *testing.T) {
	const idle = time.Second
	srv := serve(t, engine.Config{Handler: echo}, Config{IdleTimeout: idle})
	dial := func(keepAlive time.Duration) *engine.Session {
		c := newClient(t, engine.Config{}, Config{IdleTimeout: time.Minute, KeepAlive: keepAlive})
		s := c.dial(t, srv.addr)
		for i := range 60 { // both sides know the round trip time then, on which QUIC's timers depend
			_ = s.SendMessage(&framing.Message{Type: framing.Request})
			c.await(t, "the reply", func() bool { return len(c.got) > i })
		}
		return s
	}
	byDefault, often, never := dial(0), dial(100*time.Millisecond), dial(-1)
	eventually(t, "the silent session to end", func() bool { return never.Err() != nil })
	time.Sleep(idle)
	if byDefault.Err() != nil || often.Err() != nil {
		t.Errorf("the sessions that keep alive have the errors %v, %v", byDefault.Err(), often.Err())
	}
}

// taken floods a stream of a session that reads nothing, and returns how many
// bytes flow control let through.
func taken(t *testing.T, qc Config) int {
	t.Helper()
	paused := make(chan struct{})
	srv := serve(t, engine.Config{Handler: engine.HandlerFuncs{Open: func(s *engine.Session) { s.Pause(); close(paused) }}}, qc)
	q := raw(t, srv.addr, nil, ALPN)
	<-paused
	var total atomic.Int64
	var wg sync.WaitGroup
	var streams []*quic.Stream
	for range 6 {
		s := open(t, q)
		streams = append(streams, s)
		wg.Go(func() {
			for {
				n, err := s.Write(make([]byte, 1000))
				total.Add(int64(n))
				if err != nil {
					return
				}
			}
		})
	}
	settled(&total)
	for _, s := range streams {
		_ = s.SetWriteDeadline(time.Now())
	}
	wg.Wait()
	return int(total.Load())
}

// settled waits until n stays as it is for a while.
func settled(n *atomic.Int64) {
	for last, calm := int64(-1), 0; calm < 10; time.Sleep(50 * time.Millisecond) {
		if v := n.Load(); v != last {
			last, calm = v, 0
		} else {
			calm++
		}
	}
}

// TestConfigInitialWindow (hazard 21): the setting bounds the bytes of an unread
// connection.
func TestConfigInitialWindow(t *testing.T) {
	const slack = 6 * 1500 // bytes that quic-go buffers on the sending side
	if n := taken(t, Config{}); n < DefaultInitialWindow/2 || n > DefaultInitialWindow+slack {
		t.Errorf("by default %d bytes are taken", n)
	}
	if n := taken(t, Config{InitialWindow: 1 << 20}); n < 1<<19 || n > 1<<20+slack {
		t.Errorf("with 1 MiB %d bytes are taken", n)
	}
}

// TestConfigMaxWindow: the windows of a connection that is read as fast as it is
// written grow, but not beyond the setting.
func TestConfigMaxWindow(t *testing.T) {
	for _, window := range []int{64 << 10, 1 << 20} {
		stop := make(chan struct{})
		var once sync.Once
		var r recorder
		r.onMsg = func(s *engine.Session, m *framing.Message) {
			if m.ID == 1 {
				once.Do(func() { s.Pause(); close(stop) })
			}
		}
		srv := serve(t, engine.Config{Handler: &r}, Config{InitialWindow: 32 << 10, MaxWindow: window})
		s := open(t, raw(t, srv.addr, nil, ALPN))
		chunk := packet(t, framing.Message{Payload: make([]byte, 8000)})
		for range 1500 {
			send(t, s, chunk)
		}
		send(t, s, request(t, 1, ""))
		<-stop
		_ = s.SetWriteDeadline(time.Now().Add(time.Second))
		n, _ := s.Write(make([]byte, 4<<20))
		if limit := window/2 + 1500; n > limit || n < 24<<10 { // it began with 16 KiB
			t.Errorf("MaxWindow %d: %d bytes were taken, at most %d are right", window, n, limit)
		}
	}
}

// TestDevelopmentCertificateIsWarnedOf: it isn't used silently, one's own is no reason to
// warn, and other addresses than loopback need a request for it.
func TestDevelopmentCertificateIsWarnedOf(t *testing.T) {
	var log bytes.Buffer
	cfg := engine.Config{Handler: echo, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	certificate := developmentCertificate(t)
	serve(t, cfg, Config{TLS: &tls.Config{Certificates: []tls.Certificate{certificate}}})
	if log.Len() > 0 {
		t.Fatalf("logged %s", log.String())
	}
	serve(t, cfg, Config{})
	if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "level=WARN") || !strings.Contains(s, "development certificate") {
		t.Fatalf("logged %q", s)
	}
	for _, c := range []struct {
		addr string
		cfg  Config
		ok   bool
	}{{"127.0.0.1:0", Config{}, true}, {"[::1]:0", Config{}, true}, {":0", Config{}, false}, {":0", Config{SelfSigned: true}, true}} {
		e := engine.New(cfg)
		if _, err := e.Listen(c.addr, New(c.cfg)); (err == nil) != c.ok {
			t.Errorf("%s, %v: %v", c.addr, c.cfg.SelfSigned, err)
		}
		_ = e.Close()
	}
}

// TestListenerTLS: QUIC serves the certificate of the listener's TLS protocol, and a
// reloaded one.
func TestListenerTLS(t *testing.T) {
	shared := engine.TLS(engine.TLSConfig{SelfSigned: true})
	e := engine.New(engine.Config{Handler: echo, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(func() { _ = e.Close() })
	l, err := e.Listen("127.0.0.1:0", engine.Packets(), shared, QUIC())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		q := raw(t, l.Addr().String(), nil, ALPN)
		got := q.ConnectionState().TLS.PeerCertificates[0].Raw
		if want := shared.ServerConfig().Certificates[0].Certificate[0]; !bytes.Equal(got, want) {
			t.Error("another certificate")
		}
		if err := shared.Reload(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDevelopmentCertificate is good for the names of this machine, on P-256, and
// the same for the whole process.
func TestDevelopmentCertificate(t *testing.T) {
	a, b := developmentCertificate(t), developmentCertificate(t)
	if !bytes.Equal(a.Certificate[0], b.Certificate[0]) {
		t.Error("there are two")
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := a.Leaf.VerifyHostname(name); err != nil {
			t.Error(err)
		}
	}
	if key, ok := a.PrivateKey.(*ecdsa.PrivateKey); !ok || key.Curve != elliptic.P256() {
		t.Error("the key isn't on P-256")
	}
	if now := time.Now(); now.Before(a.Leaf.NotBefore) || a.Leaf.NotAfter.Before(now.Add(24*time.Hour)) {
		t.Errorf("valid from %v to %v", a.Leaf.NotBefore, a.Leaf.NotAfter)
	}
}

// TestConfigTLS: the caller's certificate is the one that is served, also when
// chosen for a client; a configuration without one is refused.
func TestConfigTLS(t *testing.T) {
	certificate := developmentCertificate(t)
	own := &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"something else"}}
	asked := make(chan string, 10)
	for _, config := range []*tls.Config{
		own,
		{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }},
		{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			asked <- hello.ServerName
			return own, nil
		}},
	} {
		srv := serve(t, engine.Config{Handler: echo}, Config{TLS: config})
		s := open(t, raw(t, srv.addr, nil, ALPN))
		send(t, s, request(t, 1, "x"))
		expect(t, s, framing.Response, 1, "x")
		sendUni(t, raw(t, srv.addr, nil), request(t, 1, "x"))
	}
	if name := <-asked; name != "localhost" {
		t.Errorf("GetConfigForClient saw the name %q", name)
	}
	if len(own.NextProtos) != 1 || own.NextProtos[0] != "something else" {
		t.Errorf("the caller's NextProtos became %v", own.NextProtos)
	}
	e := engine.New(engine.Config{Handler: echo})
	defer e.Close()
	if _, err := e.Listen("127.0.0.1:0", New(Config{TLS: &tls.Config{}})); !errors.Is(err, errNoCertificate) {
		t.Errorf("Listen without a certificate: %v", err)
	}
	refusing := errors.New("not you")
	srv := serve(t, engine.Config{Handler: echo}, Config{TLS: &tls.Config{
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, refusing }}})
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	if _, err := quic.DialAddr(ctx, srv.addr, trust(t, ALPN), nil); err == nil {
		t.Error("GetConfigForClient's refusal didn't count")
	}
}

// TestHandshakeLimit: the engine's setting bounds the handshake, and none means
// something that QUIC can say.
func TestHandshakeLimit(t *testing.T) {
	full := Config{}.withDefaults()
	if q := full.quicConfig(&engine.Limits{}); q.HandshakeIdleTimeout != unboundedHandshake/2 {
		t.Errorf("no limit becomes %v", q.HandshakeIdleTimeout)
	}
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	c := newClient(t, engine.Config{HandshakeTimeout: 400 * time.Millisecond}, Config{})
	_, err = c.Dial(t.Context(), socket.LocalAddr().String(), c.protocol)
	if !errors.Is(err, engine.ErrHandshakeTimeout) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a silent server: %v", err)
	}
}
