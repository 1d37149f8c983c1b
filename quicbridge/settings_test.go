package quicbridge

import (
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/quic-go/quic-go"
)

// proof says how it is known that a setting is read: by a check of its own, or
// by a test of this package that fails when the setting is ignored, and why.
type proof struct {
	check func(*testing.T)
	test  string
	why   string
}

func (p proof) Proof() testkit.Proof { return testkit.Proof{Check: p.check, Test: p.test, Why: p.why} }

// TestHazard24EverySettingIsRead wants a proof for every exported field of this
// package's settings, and of those that an engine hands to its transports.
func TestHazard24EverySettingIsRead(t *testing.T) {
	tests := testkit.TestsIn(t, ".")
	for _, s := range []struct {
		of     any
		proofs map[string]proof
	}{{Config{}, configProofs}, {engine.Limits{}, limitsProofs}} {
		testkit.EverySettingIsRead(t, s.of, tests, s.proofs)
	}
}

var configProofs = map[string]proof{
	"TLS":            {test: "TestConfigTLS", why: "a refusal by its callback must count"},
	"SelfSigned":     {test: "TestDevelopmentCertificateIsWarnedOf", why: "without it Listen must fail"},
	"MaxStreams":     {test: "TestConfigStreams", why: "the fourth stream must be refused"},
	"MaxIncomingUni": {test: "TestConfigStreams", why: "the sixth unidirectional stream must be refused"},
	"IdleTimeout":    {test: "TestConfigIdleTimeout", why: "the default is longer than it waits"},
	"KeepAlive":      {test: "TestConfigKeepAlive", why: "the default keeps the session that must end"},
	"InitialWindow":  {test: "TestConfigInitialWindow", why: "the default takes less than half a MiB"},
	"MaxWindow":      {test: "TestConfigMaxWindow", why: "the default takes more than the smaller of its windows"},
	"ReadMemory":     {test: "TestConfigReadMemory", why: "the default takes more than it allows"},
}

var limitsProofs = map[string]proof{
	"MaxMessageSize":   {check: checkMaxMessageSize},
	"OutboxSoftMark":   {check: checkOutboxSoftMark},
	"OutboxLimit":      {test: "TestHazard21MutePeer", why: "the default takes more than it allows"},
	"SlowConsumer":     {test: "TestSlowConsumerPolicies", why: "the default closes the session"},
	"HandshakeTimeout": {check: checkHandshakeTimeout},
	"IdleTimeout":      {test: "TestConfigIdleTimeout", why: "the connection's own timeout is an hour"},
	"LingerTimeout":    {check: checkLingerTimeout},
	"WriteTimeout":     {test: "TestWriteTimeout", why: "the default is longer than it waits"},
	"PingInterval":     {test: "TestPings", why: "nothing else keeps the session"},
	"PongTimeout":      {test: "TestPings", why: "the peer that vanishes must end earlier than by IdleTimeout"},
	"PartialTimeout":   {check: checkPartialTimeout},
	"MaxHandshakes":    {test: "TestHazard13HandshakeBound", why: "by default nobody would be refused"},

	"MaxSessionsPerAddr": {test: "TestHazard34UnprovenAddresses", why: "the forged connections would be counted"},
	"AcceptRate":         {test: "TestHazard34UnprovenAddresses", why: "the forged connections would be counted"},
}

// checkMaxMessageSize: a packet of that size is answered, a larger one ends the
// connection.
func checkMaxMessageSize(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo, MaxMessageSize: 100}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	s := open(t, q)
	send(t, s, request(t, 1, strings.Repeat("x", 100)))
	expect(t, s, framing.Response, 1, strings.Repeat("x", 100))
	send(t, s, request(t, 2, strings.Repeat("x", 101)))
	expectCode(t, q, CodeTooLarge)
}

// checkOutboxSoftMark: a peer that reads no answer may ask until so much waits.
func checkOutboxSoftMark(t *testing.T) {
	const enough = 4 << 20 // above the default, and the bytes in flight
	var asked atomic.Int64
	srv := serve(t, engine.Config{OutboxSoftMark: 8 << 20, OutboxLimit: 32 << 20, Handler: engine.HandlerFunc(
		func(s *engine.Session, m *framing.Message) {
			asked.Add(int64(len(m.Payload)))
			_ = s.Reply(m, m.Payload)
		})}, Config{})
	q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 8 << 10, MaxStreamReceiveWindow: 8 << 10}, ALPN)
	s := open(t, q)
	_ = s.SetWriteDeadline(time.Now().Add(testPatience))
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := request(t, 1, strings.Repeat("x", 10_000))
		for range 700 {
			if _, err := s.Write(b); err != nil {
				return
			}
		}
	}()
	eventually(t, "the engine to read on", func() bool { return asked.Load() > enough })
	_ = q.CloseWithError(0, "")
	<-done
}

// ahead is how much earlier than the short wait the long one begins: with the
// setting ignored, the long one would be the first to end.
const ahead = 300 * time.Millisecond

// checkHandshakeTimeout: a short dial to a silent server ends, and a long one
// that began before goes on.
func checkHandshakeTimeout(t *testing.T) {
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	begin := func(limit time.Duration) <-chan error {
		c := newClient(t, engine.Config{HandshakeTimeout: limit}, Config{})
		end := make(chan error, 1)
		go func() {
			_, err := c.Dial(t.Context(), socket.LocalAddr().String(), c.protocol)
			end <- err
		}()
		return end
	}
	long := begin(time.Hour)
	time.Sleep(ahead)
	select {
	case err := <-begin(400 * time.Millisecond):
		if err == nil {
			t.Error("a silent server was reached")
		}
	case <-time.After(testPatience):
		t.Error("the dial doesn't end")
	}
	if len(long) > 0 {
		t.Error("the dial with an hour of time ended first: ", <-long)
	}
}

// checkPartialTimeout: the rest of a packet may take so long.
func checkPartialTimeout(t *testing.T) {
	begin := func(limit time.Duration) *recorder {
		r := &recorder{}
		srv := serve(t, engine.Config{Handler: r, PartialTimeout: limit}, Config{})
		send(t, open(t, raw(t, srv.addr, nil, ALPN)), []byte{1})
		return r
	}
	long := begin(time.Hour)
	time.Sleep(ahead)
	if err := begin(100 * time.Millisecond).reason(t); !errors.Is(err, engine.ErrPartialTimeout) {
		t.Error(err)
	}
	long.mu.Lock()
	defer long.mu.Unlock()
	if len(long.reasons) > 0 {
		t.Error("the session with an hour of time ended first")
	}
}

// checkLingerTimeout: a session that closes waits so long for its peer to read.
func checkLingerTimeout(t *testing.T) {
	begin := func(limit time.Duration) *recorder {
		r := &recorder{}
		r.onMsg = func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, make([]byte, 1<<19)); s.Close() }
		srv := serve(t, engine.Config{Handler: r, LingerTimeout: limit, WriteTimeout: -1}, Config{})
		q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 8 << 10, MaxStreamReceiveWindow: 8 << 10}, ALPN)
		send(t, open(t, q), request(t, 1, ""))
		return r
	}
	long := begin(time.Hour)
	time.Sleep(ahead)
	if err := begin(100 * time.Millisecond).reason(t); !errors.Is(err, engine.ErrClosed) {
		t.Error(err)
	}
	long.mu.Lock()
	defer long.mu.Unlock()
	if len(long.reasons) > 0 {
		t.Error("the session with an hour of time ended first")
	}
}
