package quicbridge

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// TestHazard20StuckStreams: streams that are opened and never finished, in the
// middle of a packet or with unread replies, don't block others.
func TestHazard20StuckStreams(t *testing.T) { eachDispatch(t, testHazard20StuckStreams) }

func testHazard20StuckStreams(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo}, Config{})
	q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 16 << 10, MaxStreamReceiveWindow: 16 << 10}, ALPN)
	for i := range 20 {
		send(t, open(t, q), request(t, uint32(i), "never whole")[:18+i%5])
	}
	big := request(t, 1, strings.Repeat("x", 100_000))
	for range 30 { // far more than half of the connection's OutboxLimit
		send(t, open(t, q), big)
	}
	s := open(t, q)
	for i := range 100 {
		send(t, s, request(t, uint32(i), name(i)))
		expect(t, s, framing.Response, uint32(i), name(i))
	}
}

// TestHazard21StalledPeer: a peer that stops reading loses its own session, with a
// typed error, and affects no other.
func TestHazard21StalledPeer(t *testing.T) { eachDispatch(t, testHazard21StalledPeer) }

func testHazard21StalledPeer(t *testing.T, d engine.Dispatch) {
	var r recorder
	errs := make(chan error, 1)
	r.onMsg = func(s *engine.Session, m *framing.Message) {
		if string(m.Payload) != "flood" {
			_ = s.Reply(m, m.Payload)
			return
		}
		for {
			if err := s.SendMessage(&framing.Message{Payload: make([]byte, 10_000)}); err != nil {
				errs <- err
				return
			}
		}
	}
	srv := serve(t, engine.Config{Dispatch: d, Handler: &r, Cores: 1, OutboxLimit: 1 << 20}, Config{})
	other := open(t, raw(t, srv.addr, nil, ALPN))
	// The window that it advertises is huge, and it reads nothing.
	q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 1 << 16, InitialConnectionReceiveWindow: 1 << 30}, ALPN)
	send(t, open(t, q), request(t, 1, "flood"))
	select {
	case err := <-errs:
		if err != engine.ErrSlowConsumer {
			t.Fatalf("sending ended with %v", err)
		}
	case <-time.After(testPatience):
		t.Fatal("sending blocks, or has no bound")
	}
	expectCode(t, q, CodeSlowConsumer)
	if err := r.reason(t); !errors.Is(err, engine.ErrSlowConsumer) {
		t.Fatalf("OnClose got %v", err)
	}
	for i := range 10 {
		send(t, other, request(t, uint32(i), name(i)))
		expect(t, other, framing.Response, uint32(i), name(i))
	}
}

// TestHazard21MutePeer: with a peer that granted huge windows and then falls
// silent, so that nothing leaves, small replies are bounded as well.
func TestHazard21MutePeer(t *testing.T) { eachDispatch(t, testHazard21MutePeer) }

func testHazard21MutePeer(t *testing.T, d engine.Dispatch) {
	const limit = 512 << 10
	sessions := make(chan *engine.Session, 1)
	srv := serve(t, engine.Config{Dispatch: d, OutboxLimit: limit, Handler: engine.HandlerFunc(
		func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, nil); sessions <- s })}, Config{})
	q, mute := dialMuting(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 1 << 30, MaxStreamReceiveWindow: 1 << 30,
		InitialConnectionReceiveWindow: 1 << 30, MaxConnectionReceiveWindow: 1 << 30})
	s := open(t, q)
	send(t, s, request(t, 1, ""))
	expect(t, s, framing.Response, 1, "")
	mute.now.Store(true)
	session := <-sessions
	taken := 0
	var err error
	m := &framing.Message{Type: framing.Response, Stream: 1, Payload: make([]byte, 100)}
	for taken < 4*limit {
		if err = session.SendMessage(m); err != nil {
			break
		}
		taken += framing.PacketHeaderSize + len(m.Payload)
	}
	const underWay = 128 << 10 // bytes that quic-go sends without an answer, the budget, and the bytes of the writer
	if err != engine.ErrSlowConsumer || taken > limit+underWay {
		t.Fatalf("%d bytes were taken, the limit is %d: %v", taken, limit, err)
	}
}

// TestHazard21ManyStreams: the bound holds for all streams of a connection
// together.
func TestHazard21ManyStreams(t *testing.T) { eachDispatch(t, testHazard21ManyStreams) }

func testHazard21ManyStreams(t *testing.T, d engine.Dispatch) {
	const limit = 1 << 20
	var mu sync.Mutex
	taken := 0
	done := make(chan error, 1)
	srv := serve(t, engine.Config{Dispatch: d, OutboxLimit: limit, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		mu.Lock()
		defer mu.Unlock()
		payload := make([]byte, 60_000)
		if err := s.Reply(m, payload); err == nil {
			taken += len(payload)
		} else {
			select {
			case done <- err:
			default:
			}
		}
	})}, Config{})
	q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 1 << 10, MaxStreamReceiveWindow: 1 << 10}, ALPN)
	const streams = 40
	for range streams {
		s, err := q.OpenStreamSync(t.Context())
		if err == nil {
			_, err = s.Write(request(t, 1, ""))
		}
		if err != nil { // already closed, because the bound is reached; expectCode checks the reason
			break
		}
	}
	if err := <-done; err != engine.ErrSlowConsumer {
		t.Fatalf("the bound was reached with %v", err)
	}
	expectCode(t, q, CodeSlowConsumer)
	mu.Lock()
	defer mu.Unlock()
	if taken > limit+streams*4096 || taken < limit/2 {
		t.Fatalf("%d bytes were queued, the limit is %d", taken, limit)
	}
}

// TestHazard10Backpressure: a client that asks without reading is stopped at a part
// of the connection's OutboxLimit, and gets every reply when it reads.
func TestHazard10Backpressure(t *testing.T) { eachDispatch(t, testHazard10Backpressure) }

func testHazard10Backpressure(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo, MaxMessageSize: 16 << 10, RingSize: 64 << 10,
		OutboxSoftMark: 64 << 10, OutboxLimit: 1 << 20}, Config{})
	q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 32 << 10, MaxStreamReceiveWindow: 32 << 10}, ALPN)
	payload := strings.Repeat("x", 8000)
	const streams, each = 30, 40
	var wg sync.WaitGroup
	all := make([]*quic.Stream, streams)
	for i := range all {
		all[i] = open(t, q)
		wg.Go(func() {
			for id := range each {
				if _, err := all[i].Write(request(t, uint32(id), payload)); err != nil {
					t.Errorf("stream %d: %v", i, err)
					return
				}
			}
		})
	}
	time.Sleep(300 * time.Millisecond)
	for i := range all {
		wg.Go(func() {
			for id := range each {
				if m, err := next(all[i]); err != nil || m.ID != uint32(id) || string(m.Payload) != payload {
					t.Errorf("stream %d reply %d: %v", i, id, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestHazard11NoDeadlock: two sides that write and don't read yet.
func TestHazard11NoDeadlock(t *testing.T) { eachDispatch(t, testHazard11NoDeadlock) }

func testHazard11NoDeadlock(t *testing.T, d engine.Dispatch) {
	const n, size = 60, 50_000
	got := make(chan struct{}, 2*n)
	h := engine.HandlerFunc(func(*engine.Session, *framing.Message) { got <- struct{}{} })
	flood := func(s *engine.Session) {
		for range n {
			if err := s.Send(make([]byte, size)); err != nil {
				t.Error(err)
				return
			}
		}
	}
	srv := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFuncs{Open: flood, Message: h}}, Config{InitialWindow: 32 << 10, MaxWindow: 32 << 10})
	c := newClient(t, engine.Config{Dispatch: d, Handler: h}, Config{InitialWindow: 32 << 10, MaxWindow: 32 << 10})
	flood(c.dial(t, srv.addr))
	for i := range 2 * n {
		select {
		case <-got:
		case <-time.After(testPatience):
			t.Fatalf("stuck after %d messages", i)
		}
	}
}

// TestHazard22NoEarlyData: a client that has a ticket for 0-RTT, from another
// server with the same keys, and uses it, is rejected; nothing of its early data
// reaches the handler.
func TestHazard22NoEarlyData(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	certificate := developmentCertificate(t)
	keys := &tls.Config{Certificates: []tls.Certificate{certificate}}
	keys.SetSessionTicketKeys([][32]byte{{1, 2, 3}})

	lenient := keys.Clone()
	lenient.NextProtos = []string{ALPN}
	full := Config{}.withDefaults()
	same := full.quicConfig(&engine.Limits{}) // a ticket is good for the same windows only
	same.Allow0RTT = true
	other, err := quic.ListenAddr("127.0.0.1:0", lenient, same)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	config := trust(t, ALPN)
	tickets := &ticketCache{ClientSessionCache: tls.NewLRUClientSessionCache(1), stored: make(chan struct{}, 8)}
	config.ClientSessionCache = tickets
	q, err := quic.DialAddr(ctx, other.Addr().String(), config, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-tickets.stored
	_ = q.CloseWithError(0, "")

	var r recorder
	r.onMsg = echo
	srv := serve(t, engine.Config{Handler: &r}, Config{TLS: keys})
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	held := &muting{PacketConn: socket}
	transport := &quic.Transport{Conn: held}
	defer transport.Close()
	remote, _ := net.ResolveUDPAddr("udp", srv.addr)
	held.now.Store(true) // quic-go's client has a data race between an early stream and the server's answer
	q, err = transport.DialEarly(ctx, remote, config, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer q.CloseWithError(0, "")
	s, err := q.OpenStream() // before the handshake: this is early data
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, request(t, 666, "replayed"))
	time.Sleep(20 * time.Millisecond) // it is sent
	held.now.Store(false)
	<-q.HandshakeComplete()
	if state := q.ConnectionState(); !state.TLS.DidResume || state.Used0RTT {
		t.Fatalf("resumed %v, with early data %v", state.TLS.DidResume, state.Used0RTT)
	}
	if q, err = q.NextConnection(ctx); err != nil {
		t.Fatal(err)
	}
	s = open(t, q)
	send(t, s, request(t, 1, "x"))
	expect(t, s, framing.Response, 1, "x")
	if n := r.count(); n != 1 {
		t.Fatalf("%d messages reached the handler", n)
	}
}

type ticketCache struct {
	tls.ClientSessionCache
	stored chan struct{}
}

func (c *ticketCache) Put(key string, s *tls.ClientSessionState) {
	c.ClientSessionCache.Put(key, s)
	if s != nil {
		c.stored <- struct{}{}
	}
}

// TestHazard23ClientHellos: handshakes that the listener didn't expect fail by
// themselves, and the listener goes on.
func TestHazard23ClientHellos(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	ctx, cancel := context.WithTimeout(t.Context(), testPatience)
	defer cancel()
	for _, c := range []struct {
		name   string
		config func() *tls.Config
		ok     bool
	}{
		{"unknown ALPN", func() *tls.Config { return trust(t, "h3", "imap") }, false},
		{"several, ours among them", func() *tls.Config { return trust(t, "h3", ALPN) }, true},
		{"no ALPN", func() *tls.Config { return trust(t) }, true},
		{"untrusted certificate", func() *tls.Config { return &tls.Config{ServerName: "localhost", NextProtos: []string{ALPN}} }, false},
		{"foreign server name", func() *tls.Config { c := trust(t, ALPN); c.ServerName = "example.org"; return c }, false},
	} {
		q, err := quic.DialAddr(ctx, srv.addr, c.config(), nil)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil {
			_ = q.CloseWithError(0, "")
		}
		s := open(t, raw(t, srv.addr, nil, ALPN))
		send(t, s, request(t, 1, "x"))
		expect(t, s, framing.Response, 1, "x")
	}
	// How this side sees a refused certificate depends on which of the client's
	// packets arrives; and a client that closes at once may be gone before its
	// handshake is done here.
	eventually(t, "the refusals to be counted", func() bool {
		total := uint64(0)
		for _, n := range srv.Stats().Refused {
			total += n
		}
		return total >= 3
	})
	eventually(t, "no handshake to be under way", func() bool { return endpointOf(t, srv).handshakes.Load() == 0 })
}

// halfOpen begins n handshakes that never go on, and returns when the first packet
// of each was sent. One that is lost on the way is repeated.
func halfOpen(t *testing.T, addr string, n int) {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	deaf := &muting{PacketConn: socket}
	deaf.now.Store(true)
	transport := &quic.Transport{Conn: deaf}
	ctx, cancel := context.WithCancel(context.Background())
	remote, _ := net.ResolveUDPAddr("udp", addr)
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			_, _ = transport.Dial(ctx, remote, &tls.Config{NextProtos: []string{ALPN}, InsecureSkipVerify: true},
				&quic.Config{HandshakeIdleTimeout: time.Minute})
		})
		time.Sleep(200 * time.Microsecond) // a socket's buffer is small
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = transport.Close()
		_ = socket.Close()
	})
	eventually(t, "the first packets", func() bool { return deaf.sent.Load() >= int64(n) })
}

// TestHazard09SlowHandshakes: stalled handshakes do not delay others, and end at
// the deadline.
func TestHazard09SlowHandshakes(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo, HandshakeTimeout: 5 * time.Second}, Config{})
	halfOpen(t, srv.addr, 20)
	s := open(t, raw(t, srv.addr, nil, ALPN))
	send(t, s, request(t, 1, "x"))
	expect(t, s, framing.Response, 1, "x")
	eventually(t, "the handshakes to time out", func() bool { return srv.Stats().Refused["handshake_timeout"] == 20 })
}

// TestHazard13HandshakeFlood: with very many handshakes under way new clients
// prove their address, and so get in.
func TestHazard13HandshakeFlood(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo, HandshakeTimeout: -1}, Config{})
	e := endpointOf(t, srv)
	halfOpen(t, srv.addr, 2*retryHandshakes)
	eventually(t, "as many handshakes as are begun without a proof", func() bool { return e.handshakes.Load() >= retryHandshakes })
	s := open(t, raw(t, srv.addr, nil, ALPN))
	send(t, s, request(t, 1, "x"))
	expect(t, s, framing.Response, 1, "x")
	if n := e.handshakes.Load(); n > retryHandshakes+8 {
		t.Fatalf("%d handshakes are under way, new ones retry from %d on", n, retryHandshakes)
	}
}

// TestHazard08Garbage: packets that aren't QUIC, or are cut, don't end the
// listener.
func TestHazard08Garbage(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	socket, err := net.Dial("udp", srv.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for i := range 200 {
		b := make([]byte, 1+i*7)
		for j := range b {
			b[j] = byte(i*31 + j*17)
		}
		_, _ = socket.Write(b)
	}
	s := open(t, raw(t, srv.addr, nil, ALPN))
	send(t, s, request(t, 1, "x"))
	expect(t, s, framing.Response, 1, "x")
}

// dialMuting connects by a socket that can be made mute.
func dialMuting(t *testing.T, addr string, cfg *quic.Config) (*quic.Conn, *muting) {
	t.Helper()
	socket, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	mute := &muting{PacketConn: socket}
	transport := &quic.Transport{Conn: mute}
	t.Cleanup(func() { _ = transport.Close() })
	remote, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	q, err := transport.Dial(t.Context(), remote, trust(t, ALPN), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return q, mute
}
