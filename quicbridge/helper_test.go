package quicbridge

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	accounting "github.com/millrace/millrace/internal/testkit/serve"
	"github.com/quic-go/quic-go"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // hundreds of development certificates
	goleak.VerifyTestMain(m, goleak.Cleanup(accounting.ExitAccounted))
}

// testPatience is how long a test waits for an event that must happen.
const testPatience = 20 * time.Second

// echo answers every message.
var echo = engine.HandlerFunc(func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, m.Payload) })

// eachDispatch runs a test where messages are handled by workers, and where they
// are handled by the goroutines that read them.
func eachDispatch(t *testing.T, test func(*testing.T, engine.Dispatch)) {
	t.Run("workers", func(t *testing.T) { test(t, engine.Workers) })
	t.Run("inline", func(t *testing.T) { test(t, engine.Inline) })
}

// server is a running engine that serves QUIC.
type server struct {
	*engine.Engine
	addr string
}

// serve starts an engine that serves QUIC, and closes it when the test ends.
func serve(t testing.TB, ec engine.Config, qc Config) *server {
	t.Helper()
	e := engine.New(ec)
	l, err := e.Listen("127.0.0.1:0", watched{New(qc)})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return &server{e, l.Addr().String()}
}

// trust returns a client's TLS configuration that verifies the development
// certificate.
func trust(t testing.TB, protos ...string) *tls.Config {
	t.Helper()
	certificate := developmentCertificate(t)
	roots := x509.NewCertPool()
	roots.AddCert(certificate.Leaf)
	return &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: protos}
}

// developmentCertificate is the certificate of a listener without Config.TLS.
func developmentCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	p := engine.TLS(engine.TLSConfig{SelfSigned: true})
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	return p.ServerConfig().Certificates[0]
}

// client is an engine whose dialed sessions a test watches.
type client struct {
	*engine.Engine
	protocol *Protocol

	mu      sync.Mutex
	changed *sync.Cond
	got     []*framing.Message
	closed  []error
}

// newClient makes an engine for dialing. h may be nil.
func newClient(t testing.TB, ec engine.Config, qc Config) *client {
	t.Helper()
	c := &client{}
	c.changed = sync.NewCond(&c.mu)
	if ec.Handler == nil {
		ec.Handler = engine.HandlerFuncs{
			Message: func(_ *engine.Session, m *framing.Message) {
				c.mu.Lock()
				c.got = append(c.got, m.Clone())
				c.changed.Broadcast()
				c.mu.Unlock()
			},
			Close: func(_ *engine.Session, reason error) {
				c.mu.Lock()
				c.closed = append(c.closed, reason)
				c.changed.Broadcast()
				c.mu.Unlock()
			},
		}
	}
	if qc.TLS == nil {
		qc.TLS = trust(t)
	}
	c.Engine = engine.New(ec)
	c.protocol = New(qc)
	t.Cleanup(func() { _ = c.Engine.Close() })
	return c
}

func (c *client) dial(t testing.TB, addr string) *engine.Session {
	t.Helper()
	s, err := c.Dial(t.Context(), addr, c.protocol)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// await waits until ok says so, which is asked under c.mu.
func (c *client) await(t testing.TB, what string, ok func() bool) {
	t.Helper()
	stop := time.AfterFunc(testPatience, func() { c.mu.Lock(); c.changed.Broadcast(); c.mu.Unlock() })
	defer stop.Stop()
	deadline := time.Now().Add(testPatience)
	c.mu.Lock()
	defer c.mu.Unlock()
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %d messages, closed %v", what, len(c.got), c.closed)
		}
		c.changed.Wait()
	}
}

// reason waits for the first OnClose and returns its reason.
func (c *client) reason(t testing.TB) error {
	t.Helper()
	c.await(t, "OnClose", func() bool { return len(c.closed) > 0 })
	return c.closed[0]
}

// raw connects with plain quic-go. Protos nil means no ALPN.
func raw(t testing.TB, addr string, qc *quic.Config, protos ...string) *quic.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	if qc == nil {
		qc = &quic.Config{EnableDatagrams: true}
	}
	qc = qc.Clone()
	qc.HandshakeIdleTimeout = testPatience // the machine may be busy
	q, err := quic.DialAddr(ctx, addr, trust(t, protos...), qc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.CloseWithError(0, "") })
	return q
}

// open opens a bidirectional stream that a test can't hang on.
func open(t testing.TB, q *quic.Conn) *quic.Stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	s, err := q.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(testPatience))
	return s
}

// packet encodes m.
func packet(t testing.TB, m framing.Message) []byte {
	t.Helper()
	b, err := framing.AppendPacket(nil, &m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// request is the bytes of a Request.
func request(t testing.TB, id uint32, payload string) []byte {
	return packet(t, framing.Message{Type: framing.Request, ID: id, Payload: []byte(payload)})
}

// send writes b.
func send(t testing.TB, w io.Writer, b []byte) {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
}

// next reads one packet.
func next(r io.Reader) (*framing.Message, error) {
	head := make([]byte, framing.PacketHeaderSize)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, err
	}
	size := int(head[8])<<8 + int(head[9]) + int(head[10])<<24 + int(head[11])<<16 + int(head[12])<<8 + int(head[13])
	b := append(head, make([]byte, size)...)
	if _, err := io.ReadFull(r, b[framing.PacketHeaderSize:]); err != nil {
		return nil, err
	}
	var m framing.Message
	_, err := framing.Packet{}.Decode(b, 0, size, &m)
	return &m, err
}

// expect reads one packet and checks it.
func expect(t testing.TB, r io.Reader, typ framing.Type, id uint32, payload string) {
	t.Helper()
	m, err := next(r)
	if err != nil {
		t.Fatalf("reading the reply to %d: %v", id, err)
	}
	if m.Type != typ || m.ID != id || string(m.Payload) != payload {
		t.Fatalf("got type %d id %d %.40q, want type %d id %d %.40q", m.Type, m.ID, m.Payload, typ, id, payload)
	}
}

// expectEOF checks that the peer finished the stream in order.
func expectEOF(t testing.TB, r io.Reader) {
	t.Helper()
	if m, err := next(r); err != io.EOF {
		t.Fatalf("got %v, %v; want the stream's end", m, err)
	}
}

// closeError waits for the connection's end and returns its error.
func closeError(t testing.TB, q *quic.Conn) error {
	t.Helper()
	select {
	case <-q.Context().Done():
		return context.Cause(q.Context())
	case <-time.After(testPatience):
		t.Fatal("the connection doesn't end")
		return nil
	}
}

// expectCode waits for the connection's end and checks the peer's code.
func expectCode(t testing.TB, q *quic.Conn, code Code) {
	t.Helper()
	err := closeError(t, q)
	var e *quic.ApplicationError
	if !errors.As(err, &e) || !e.Remote || e.ErrorCode != code {
		t.Fatalf("the connection ended with %v, want the peer's code %d", err, code)
	}
}

// recorder is a Handler that records its callbacks.
type recorder struct {
	mu       sync.Mutex
	messages []*framing.Message
	reasons  []error
	opened   int
	onMsg    func(s *engine.Session, m *framing.Message) // called unlocked
	onOpen   func(s *engine.Session)
}

func (r *recorder) OnOpen(s *engine.Session) {
	r.mu.Lock()
	r.opened++
	r.mu.Unlock()
	if r.onOpen != nil {
		r.onOpen(s)
	}
}

func (r *recorder) OnMessage(s *engine.Session, m *framing.Message) {
	r.mu.Lock()
	r.messages = append(r.messages, m.Clone())
	r.mu.Unlock()
	if r.onMsg != nil {
		r.onMsg(s, m)
	}
}

func (r *recorder) OnClose(_ *engine.Session, reason error) {
	r.mu.Lock()
	r.reasons = append(r.reasons, reason)
	r.mu.Unlock()
}

func (r *recorder) count() int { return len(r.all()) }

// all returns the messages so far.
func (r *recorder) all() []*framing.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

// reason waits for the first OnClose.
func (r *recorder) reason(t testing.TB) error {
	t.Helper()
	var reason error
	eventually(t, "OnClose", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.reasons) == 0 {
			return false
		}
		reason = r.reasons[0]
		return true
	})
	return reason
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	testkit.Eventually(t, ok, what)
}

func name(i int) string { return fmt.Sprintf("message %d", i) }

// muting is a socket that can be made to drop received packets, and counts sent
// ones.
type muting struct {
	net.PacketConn
	now  atomic.Bool
	sent atomic.Int64 // packets
}

func (m *muting) WriteTo(b []byte, addr net.Addr) (int, error) {
	defer m.sent.Add(1)
	return m.PacketConn.WriteTo(b, addr)
}

func (m *muting) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, addr, err := m.PacketConn.ReadFrom(b)
		if err != nil || !m.now.Load() {
			return n, addr, err
		}
	}
}
