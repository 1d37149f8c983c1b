package client

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/mux"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transports are the transports on which every test body runs.
var transports = []string{"tcp", "ws", "quic"}

// server serves all transports through a mux, each on an address of its own: a
// listener with several stream protocols opens a session at its first byte, and in
// some tests the server must send first.
type server struct {
	engine *engine.Engine
	mux    *mux.Mux
	addr   map[string]string    // by transport
	opened chan *engine.Session // every accepted session
}

// newServer starts a server of h. cfg's Handler is not used.
func newServer(t *testing.T, h engine.Handler, cfg engine.Config) *server {
	t.Helper()
	srv := &server{
		mux:    mux.New(h, mux.Config{}),
		addr:   map[string]string{},
		opened: make(chan *engine.Session, 100),
	}
	cfg.Handler = serve.Opened{Handler: srv.mux, C: srv.opened}
	srv.engine = engine.New(cfg)
	t.Cleanup(func() { srv.engine.Close() })
	for transport, protocol := range map[string]engine.Protocol{
		"tcp":  engine.Packets(),
		"ws":   wsupgrade.Path("/ws"),
		"quic": quicbridge.New(quicbridge.Config{TLS: testTLS().server}),
	} {
		l, err := srv.engine.Listen("127.0.0.1:0", protocol)
		if err != nil {
			t.Fatal(err)
		}
		srv.addr[transport] = l.Addr().String()
	}
	if err := srv.engine.Start(); err != nil {
		t.Fatal(err)
	}
	return srv
}

// url is where a client finds the server.
func (srv *server) url(transport string) string {
	url := transport + "://" + srv.addr[transport]
	if transport == "ws" {
		url += "/ws"
	}
	return url
}

// dialClient returns a client of url that ends with the test.
func dialClient(t *testing.T, url string, opts ...Option) *Client {
	t.Helper()
	c, err := Dial(testkit.Context(t), url, append([]Option{WithTLS(testTLS().client)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// overAll runs body over each transport, with a server of its own.
func overAll(t *testing.T, h engine.Handler, body func(t *testing.T, srv *server, url string)) {
	for _, transport := range transports {
		t.Run(transport, func(t *testing.T) {
			srv := newServer(t, h, engine.Config{Cores: 2})
			body(t, srv, srv.url(transport))
		})
	}
}

// tlsPair is a certificate for 127.0.0.1 that only its own client trusts.
type tlsPair struct{ server, client *tls.Config }

var testTLS = sync.OnceValue(func() tlsPair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return tlsPair{
		server: &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		client: &tls.Config{RootCAs: roots},
	}
})
