package engine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// proof is the evidence that a setting is read: a check of its own, or a test of this
// package that fails when the setting is ignored, and why.
type proof struct {
	check func(*testing.T)
	test  string
	why   string
}

func (p proof) Proof() testkit.Proof { return testkit.Proof{Check: p.check, Test: p.test, Why: p.why} }

// TestHazard24EverySettingIsRead wants a proof for every exported field of every
// struct that holds settings. Config's own are Limits too, which quicbridge reads.
func TestHazard24EverySettingIsRead(t *testing.T) {
	tests := testkit.TestsIn(t, ".")
	for _, s := range []struct {
		of     any
		proofs map[string]proof
	}{
		{engine.Config{}, configProofs},
		{engine.ListenConfig{}, listenProofs},
		{engine.DialConfig{}, map[string]proof{
			"Addr":  {test: "TestDialSetup", why: "nothing is served elsewhere"},
			"Setup": {test: "TestDialSetup", why: "the value must be there in OnOpen"},
		}},
		{engine.SocketOptions{}, socketProofs},
		{engine.TLSConfig{}, tlsProofs},
		{engine.CertSource{}, certSourceProofs},
		{engine.ProxyProtocol{}, map[string]proof{
			"Trusted": {test: "TestProxyHeaderIsGarbageFromOthers", why: "others must be refused"},
		}},
	} {
		testkit.EverySettingIsRead(t, s.of, tests, s.proofs)
	}
}

var configProofs = map[string]proof{
	"Handler":            {test: "TestRequestGetsResponseInAnyCut", why: "nobody else answers"},
	"Authorize":          {test: "TestAuthorizeRefuses", why: "nothing else refuses"},
	"Dispatch":           {check: checkDispatch},
	"Cores":              {check: checkCores},
	"Logger":             {test: "TestTLSSelfSignedIsWarnedOf", why: "it reads the log"},
	"MaxMessageSize":     {test: "TestMaxMessageSizeBothWays", why: "a message of 101 bytes must fail"},
	"RingSize":           {test: "TestHazard10SlowHandlerStopsTheReadingAndLosesNothing", why: "the default takes more than it allows to be read"},
	"ReadBufferSize":     {check: checkReadBufferSize},
	"OutboxSoftMark":     {check: checkOutboxSoftMark},
	"OutboxLimit":        {check: checkOutboxLimit},
	"SlowConsumer":       {test: "TestDropNewest", why: "the default closes the session"},
	"HandshakeTimeout":   {check: checkHandshakeTimeout},
	"SniffTimeout":       {check: checkSniffTimeout},
	"IdleTimeout":        {test: "TestIdleTimeout", why: "by default no session ends so"},
	"PingInterval":       {test: "TestPings", why: "nothing else asks"},
	"PongTimeout":        {test: "TestPings", why: "the default is longer than the test waits"},
	"PartialTimeout":     {test: "TestPartialTimeout", why: "the default is longer than it waits"},
	"WriteTimeout":       {test: "TestWriteTimeout", why: "the default is longer than it waits"},
	"MaxSessions":        {test: "TestMaxSessions", why: "the fourth session must be refused"},
	"MaxSessionsPerAddr": {test: "TestMaxSessionsPerAddr", why: "the third session of an address must be refused"},
	"MaxHandshakes":      {test: "TestHazard13ManyHalfOpenHandshakes", why: "the eleventh handshake must be refused"},
	"MemoryLimit":        {test: "TestMemoryLimitRefuses", why: "the default is far more than it fills"},
	"AcceptRate":         {test: "TestAcceptRate", why: "some of 20 connections must be refused"},
	"MessageRate":        {test: "TestMessageRateSlowsDownAndLosesNothing", why: "by default nothing is throttled"},
	"ByteRate":           {test: "TestMessageRateSlowsDownAndLosesNothing", why: "by default nothing is throttled"},
	"Socket":             {test: "TestSocketOptionsAreSet", why: "its fields are below, each for itself"},
	"LingerTimeout":      {check: checkLingerTimeout},
	"ShutdownTimeout":    {check: checkShutdownTimeout},
}

const asksTheSystem = "it asks the system for the option, and no default is like that"

var socketProofs = map[string]proof{
	"Nagle":             {test: "TestSocketOptionsAreSet", why: asksTheSystem},
	"KeepAliveIdle":     {test: "TestSocketOptionsAreSet", why: asksTheSystem},
	"KeepAliveInterval": {test: "TestSocketOptionsAreSet", why: asksTheSystem},
	"KeepAliveCount":    {test: "TestSocketOptionsAreSet", why: asksTheSystem},
	"ReusePort":         {test: "TestReusePortLetsTwoBind", why: "the second bind would fail"},
	"ReadBuffer":        {test: "TestSocketOptionsAreSet", why: asksTheSystem},
	"WriteBuffer":       {test: "TestSocketOptionsAreSet", why: asksTheSystem},
	"Backlog":           {test: "TestBacklog", why: "it asks the system for the length of the queue"},
	"ResetOnClose":      {test: "TestResetOnClose", why: "the peer must hear a reset with it, and an end without"},
	"LocalAddr":         {test: "TestDialFromALocalAddress", why: "the server must see that address"},
}

var tlsProofs = map[string]proof{
	"CertFile":     {test: "TestTLSReload", why: "the only certificate is in the file"},
	"KeyFile":      {test: "TestTLSReload", why: "the only key is in the file"},
	"CertPEM":      {test: "TestTLSServerNames", why: "clients without a name must see it"},
	"KeyPEM":       {test: "TestTLSServerNames", why: "no handshake succeeds without the key"},
	"Certificates": {test: "TestTLSServerNames", why: "clients that name them must see them"},
	"SelfSigned":   {test: "TestTLSSelfSignedIsWarnedOf", why: "there is no other certificate"},
	"ClientAuth":   {test: "TestTLSClientCertificates", why: "a client without a certificate must be refused"},
	"ClientCAFile": {check: checkClientCAFile},
	"ClientCAPEM":  {test: "TestTLSClientCertificates", why: "the system's authorities don't know the client's"},
	"NextProtos":   {test: "TestTLSNextProtos", why: "the protocol must be agreed on"},
	"MinVersion":   {test: "TestTLSMinVersion", why: "the default takes what must be refused"},
	"Required":     {test: "TestTLSRequiredRefusesPlain", why: "the default serves plain peers"},
	"Config":       {test: "TestTLSConfigOfItsOwn", why: "the only certificate comes from its callback"},
}

var certSourceProofs = map[string]proof{
	"CertFile": {check: checkCertSourceFiles},
	"KeyFile":  {check: checkCertSourceFiles},
	"CertPEM":  {test: "TestTLSServerNames", why: "clients that name them must see them"},
	"KeyPEM":   {test: "TestTLSServerNames", why: "no handshake succeeds without the key"},
}

var listenProofs = map[string]proof{
	"Addr":             {test: "TestListenConfigIsChecked", why: "an invalid address must fail"},
	"Handler":          {test: "TestListenerHandler", why: "the engine's handler answers otherwise"},
	"Authorize":        {test: "TestListenerAuthorize", why: "nothing else refuses"},
	"MaxSessions":      {test: "TestListenerMaxSessions", why: "nothing else bounds them"},
	"MaxSessionsOf":    {test: "TestListenerMaxSessionsOf", why: "nothing else bounds them"},
	"MaxMessageSize":   {test: "TestListenerLimits", why: "the engine's is larger"},
	"HandshakeTimeout": {test: "TestListenerLimits", why: "the default is longer than the test waits"},
	"IdleTimeout":      {test: "TestListenerLimits", why: "there is none otherwise"},
	"MessageRate":      {test: "TestListenerLimits", why: "there is none otherwise"},
	"ByteRate":         {test: "TestListenerLimits", why: "there is none otherwise"},
}

// checkDispatch: only workers take records from a ring.
func checkDispatch(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		e, addr := serve(t, engine.Config{Handler: echo, Dispatch: d, Cores: 1})
		c := dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		if d == engine.Workers {
			waitFor(t, "the ring's record to be counted", func() bool { return e.Stats().Cores[0].Records > 0 })
		} else if n := e.Stats().Cores[0].Records; n > 0 {
			t.Errorf("%d records of a ring that inline dispatch has no use for", n)
		}
	})
}

// checkCores: there are so many, and all of them get sessions.
func checkCores(t *testing.T) {
	const cores = 3
	e, addr := serve(t, engine.Config{Handler: echo, Cores: cores})
	waitFor(t, "every core to have a session", func() bool {
		c := dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
		busy := 0
		for _, core := range e.Stats().Cores {
			if core.Records > 0 {
				busy++
			}
		}
		return busy == cores
	})
}

// checkReadBufferSize: bytes that wait in the socket are read in pieces of that size.
func checkReadBufferSize(t *testing.T) {
	const sent, small = 32 << 10, 4 << 10
	for _, size := range []int{small, sent} {
		written := make(chan struct{})
		var largest, total atomic.Int64
		_, addr := serve(t, engine.Config{Dispatch: engine.Inline, ReadBufferSize: size, Handler: engine.HandlerFuncs{
			Open: func(*engine.Session) { <-written },
			Message: func(_ *engine.Session, m *framing.Message) {
				largest.Store(max(largest.Load(), int64(len(m.Payload))))
				total.Add(int64(len(m.Payload)))
			},
		}}, engine.Framed(framing.Raw{}))
		c := dial(t, addr)
		if _, err := c.Write(make([]byte, sent)); err != nil {
			t.Fatal(err)
		}
		close(written)
		waitFor(t, "all bytes", func() bool { return total.Load() == sent })
		if n := largest.Load(); n > int64(size) || size > small && n <= small {
			t.Errorf("ReadBufferSize %d: the largest read is %d bytes", size, n)
		}
	}
}

// checkOutboxSoftMark: a peer that reads no answer may ask until so much waits.
func checkOutboxSoftMark(t *testing.T) {
	const enough = 4 << 20 // above the default plus the system's buffers
	e, addr := serve(t, engine.Config{Handler: echo, OutboxSoftMark: 8 << 20, OutboxLimit: 32 << 20,
		Socket: engine.SocketOptions{WriteBuffer: 16 << 10}})
	c := dial(t, addr)
	_ = c.SetReadBuffer(16 << 10)
	go func() { _, _ = c.Write(numbered(1000, 10_000)) }()
	waitFor(t, "the engine to read on", func() bool { return e.Stats().BytesIn > enough })
}

// checkOutboxLimit: so much waits for a peer that doesn't read, and no more.
func checkOutboxLimit(t *testing.T) {
	for limit, drops := range map[int]bool{256 << 10: true, 32 << 20: false} {
		_, s, c := slowSession(t, engine.Config{SlowConsumer: engine.SlowConsumerDropNewest, OutboxSoftMark: 64 << 10, OutboxLimit: limit,
			Socket: engine.SocketOptions{WriteBuffer: 16 << 10}})
		_ = c.SetReadBuffer(16 << 10)
		var err error
		for n := 0; n < 1000 && err == nil; n++ {
			err = s.Send(make([]byte, 10_000)) // in all twice the default
		}
		if errors.Is(err, engine.ErrDropped) != drops || !drops && err != nil {
			t.Errorf("OutboxLimit %d: 10 MB ended with %v", limit, err)
		}
	}
}

// ahead is how much earlier than the short wait the long one begins: with the
// setting ignored, the long one would be the first to end.
const ahead = 300 * time.Millisecond

// open fails if the server has ended c.
func open(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection with an hour of time ended first: %v", err)
	}
}

// checkHandshakeTimeout: a short one ends, and a long one that began before lasts.
func checkHandshakeTimeout(t *testing.T) {
	begin := func(limit time.Duration) net.Conn {
		_, addr := serve(t, engine.Config{Handler: echo, HandshakeTimeout: limit}, hello{engine.Packets()}, engine.Packets())
		c := dial(t, addr)
		_, _ = c.Write([]byte("hel"))
		return c
	}
	long := begin(time.Hour)
	time.Sleep(ahead)
	if _, err := io.ReadAll(begin(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	open(t, long)
}

// checkSniffTimeout is checkHandshakeTimeout for connections without a byte.
func checkSniffTimeout(t *testing.T) {
	begin := func(limit time.Duration) net.Conn {
		_, addr := serve(t, engine.Config{Handler: echo, SniffTimeout: limit}, hello{engine.Packets()}, engine.Framed(framing.Line{}))
		return dial(t, addr)
	}
	long := begin(time.Hour)
	time.Sleep(ahead)
	if _, err := io.ReadAll(begin(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	open(t, long)
}

// unread are settings with which much can wait for a peer that doesn't read.
func unread(h engine.Handler) engine.Config {
	return engine.Config{Handler: h, MaxMessageSize: 8 << 20, OutboxLimit: 32 << 20, WriteTimeout: -1,
		Socket: engine.SocketOptions{WriteBuffer: 16 << 10}}
}

// checkLingerTimeout: a session that closes waits so long for its peer to read.
func checkLingerTimeout(t *testing.T) {
	begin := func(limit time.Duration) *journal {
		j := newJournal(nil)
		cfg := unread(j)
		cfg.LingerTimeout = limit
		_, addr := serve(t, cfg)
		dial(t, addr)
		s := j.session(t)
		if err := s.Send(make([]byte, 8<<20)); err != nil {
			t.Fatal(err)
		}
		s.Close()
		return j
	}
	long := begin(time.Hour)
	time.Sleep(ahead)
	begin(100 * time.Millisecond).reason(t)
	if len(long.reasons) > 0 {
		t.Error("the session with an hour of time ended first")
	}
}

// checkShutdownTimeout: Serve waits for this time for sessions whose peers do not read.
func checkShutdownTimeout(t *testing.T) {
	begin := func(limit time.Duration) <-chan error {
		j := newJournal(nil)
		cfg := unread(j)
		cfg.LingerTimeout, cfg.ShutdownTimeout = time.Hour, limit
		e := engine.New(cfg)
		l, err := e.Listen("127.0.0.1:0", engine.Packets())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		served := make(chan error, 1)
		go func() { served <- e.Serve(ctx) }()
		t.Cleanup(func() { _ = e.Close() })
		dial(t, l.Addr().String())
		if err := j.session(t).Send(make([]byte, 8<<20)); err != nil {
			t.Fatal(err)
		}
		cancel()
		return served
	}
	long := begin(time.Hour)
	time.Sleep(ahead)
	select {
	case <-begin(100 * time.Millisecond):
	case <-time.After(20 * time.Second):
		t.Fatal("Serve doesn't end")
	}
	if len(long) > 0 {
		t.Error("Serve with an hour of time ended first")
	}
}

// files puts PEM blocks into files and returns their names.
func files(t *testing.T, blocks ...[]byte) []string {
	t.Helper()
	var names []string
	for i, b := range blocks {
		name := filepath.Join(t.TempDir(), string(rune('a'+i))+".pem")
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// checkClientCAFile: the client's authority is not one of the system's.
func checkClientCAFile(t *testing.T) {
	_, addr := serve(t, engine.Config{Handler: echo}, engine.TLS(engine.TLSConfig{
		CertPEM: testCert, KeyPEM: testKey,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAFile: files(t, testAuthority.pem)[0],
	}), engine.Packets())
	cert, key := testAuthority.issue("somebody")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	cfg := clientTLS(tls.VersionTLS13)
	cfg.Certificates = []tls.Certificate{pair}
	c := dialTLS(t, addr, cfg)
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

// checkCertSourceFiles: a client that names the second certificate sees it.
func checkCertSourceFiles(t *testing.T) {
	cert, key := testAuthority.issue("second.example")
	names := files(t, cert, key)
	_, addr := serve(t, engine.Config{Handler: echo}, engine.TLS(engine.TLSConfig{
		CertPEM: testCert, KeyPEM: testKey,
		Certificates: []engine.CertSource{{CertFile: names[0], KeyFile: names[1]}},
	}), engine.Packets())
	if got := shown(t, addr, "second.example"); got != "second.example" {
		t.Error("was shown ", got)
	}
}
