package torture_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// limits are small, so that they are reached often. Every timeout is long compared with
// the time that an honest peer needs, and short compared with a run.
var limits = engine.Config{
	MaxMessageSize:   64 << 10,
	RingSize:         128 << 10,
	ReadBufferSize:   16 << 10,
	OutboxSoftMark:   64 << 10,
	OutboxLimit:      256 << 10,
	HandshakeTimeout: 5 * time.Second,
	SniffTimeout:     4 * time.Second,
	IdleTimeout:      8 * time.Second,
	WriteTimeout:     3 * time.Second,
	LingerTimeout:    4 * time.Second,
	MaxSessions:      8_000,
	MaxHandshakes:    7_000,
}

const (
	maxStreams = 16        // of a QUIC connection
	quicWindow = 128 << 10 // bytes that a QUIC peer may send ahead
)

// server is the server under test.
type server struct {
	*engine.Engine
	*witness
	addr  string
	roots *tls.Config // of a client that trusts it
}

// startServer serves every protocol at one address.
func startServer(t *testing.T, r *run, dispatch engine.Dispatch) *server {
	t.Helper()
	w := &witness{run: r}
	cfg := limits
	cfg.Handler, cfg.Dispatch = w, dispatch
	certPEM, keyPEM, roots := certificate(t)
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(cfg)
	l, err := e.Listen("127.0.0.1:0",
		engine.TLS(engine.TLSConfig{CertPEM: certPEM, KeyPEM: keyPEM}),
		wsupgrade.Path("/ws"), engine.Packets(),
		quicbridge.New(quicbridge.Config{
			TLS:        &tls.Config{Certificates: []tls.Certificate{pair}},
			MaxStreams: maxStreams, InitialWindow: quicWindow, MaxWindow: quicWindow,
		}))
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return &server{Engine: e, witness: w, addr: l.Addr().String(), roots: roots}
}

// certificate makes one for the loopback address, and a client's trust in it.
func certificate(t *testing.T) (certPEM, keyPEM []byte, roots *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	return certPEM, keyPEM, &tls.Config{RootCAs: pool, ServerName: "127.0.0.1"}
}

// witness is the server's handler. It answers all peers. On every session, also
// of hostile peers, it checks promise P1.
type witness struct {
	run *run

	opened, closed atomic.Int64
	accounts       sync.Map // sender's number to *account
	reasons        sync.Map // name of a close reason to *atomic.Int64
}

// visit is the witness's record of one session.
type visit struct {
	busy    atomic.Bool
	closed  bool
	account *account
	sender  uint64
}

type visitKey struct{}

// replies is a pool of buffers for replies.
var replies = sync.Pool{New: func() any { b := make([]byte, 0, maxPayload); return &b }}

// enter begins a callback. The returned function ends it.
func (w *witness) enter(s *engine.Session, what string) (*visit, func()) {
	v, _ := s.Value(visitKey{}).(*visit)
	if v == nil {
		if what != "OnOpen" {
			w.run.failf("%s of a session that wasn't opened", what)
		}
		v = new(visit)
		s.SetValue(visitKey{}, v)
	} else if what == "OnOpen" {
		w.run.failf("OnOpen twice")
	}
	if !v.busy.CompareAndSwap(false, true) {
		w.run.failf("%s while another callback of the session runs", what)
	}
	if v.closed {
		w.run.failf("%s after OnClose", what)
	}
	return v, func() { v.busy.Store(false) }
}

// OnOpen implements engine.Handler.
func (w *witness) OnOpen(s *engine.Session) {
	_, leave := w.enter(s, "OnOpen")
	defer leave()
	w.opened.Add(1)
}

// OnMessage implements engine.Handler.
func (w *witness) OnMessage(s *engine.Session, m *framing.Message) {
	v, leave := w.enter(s, "OnMessage")
	defer leave()
	if len(m.Payload) < 4 || binary.BigEndian.Uint32(m.Payload) != mark {
		s.Reply(m, m.Payload) // from a hostile peer
		return
	}
	h, err := parse(m.Payload)
	if err != nil {
		w.run.failf("%s: the server got %v", s.Transport(), err)
		return
	}
	if h.op == opPanic {
		panic("asked for")
	}
	if v.account == nil && !w.recognize(v, h) {
		return
	}
	if h.sender != v.sender {
		w.run.failf("%s: a message of peer %d in a session of peer %d", s.Transport(), h.sender, v.sender)
		return
	}
	lost, again := v.account.received[h.lane].take(h.seq)
	w.run.judge(s.Transport()+": the server", h, lost, again)
	w.run.carried.Add(1)
	b := replies.Get().(*[]byte)
	*b = append((*b)[:0], m.Payload...)
	binary.BigEndian.PutUint32((*b)[20:], v.account.received[h.lane].next.Load()-1)
	s.Reply(m, *b)
	replies.Put(b)
	if h.op == opClose {
		s.Close()
	}
}

// recognize finds the account of the peer whose first message this is.
func (w *witness) recognize(v *visit, h head) bool {
	a, ok := w.accounts.Load(h.sender)
	if !ok {
		w.run.failf("a message of peer %d, which doesn't exist", h.sender)
		return false
	}
	v.account, v.sender = a.(*account), h.sender
	if v.account.opened.Add(1) != 1 {
		w.run.failf("peer %d has a second session", h.sender)
	}
	return true
}

// OnClose implements engine.Handler.
func (w *witness) OnClose(s *engine.Session, reason error) {
	v, leave := w.enter(s, "OnClose")
	defer leave()
	v.closed = true
	name := reasonName(reason)
	if name == "" {
		w.run.failf("%s: no known reason: %v", s.Transport(), reason)
	}
	n, _ := w.reasons.LoadOrStore(name, new(atomic.Int64))
	n.(*atomic.Int64).Add(1)
	if v.account != nil {
		v.account.reason.Store(&reason)
		v.account.closed.Add(1)
	}
	w.closed.Add(1)
}

// reasonName returns the name of a close reason, "" if errors.Is doesn't find it.
func reasonName(err error) string {
	for _, k := range [...]struct {
		name string
		err  error
	}{
		{"handler panic", engine.ErrHandlerPanic}, {"too large", engine.ErrTooLarge},
		{"slow consumer", engine.ErrSlowConsumer}, {"write timeout", engine.ErrWriteTimeout},
		{"idle timeout", engine.ErrIdleTimeout}, {"handshake timeout", engine.ErrHandshakeTimeout},
		{"shutdown", engine.ErrShutdown}, {"refused", engine.ErrRefused}, {"protocol", engine.ErrProtocol},
		{"peer closed", engine.ErrPeerClosed}, {"connection lost", engine.ErrConnectionLost},
		{"closed here", engine.ErrClosed},
	} {
		if errors.Is(err, k.err) {
			return k.name
		}
	}
	return ""
}
