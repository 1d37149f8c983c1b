package engine

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/internal/devcert"
)

// ErrTLSHandshake: the peer's TLS handshake failed. It is also ErrProtocol.
var ErrTLSHandshake = fmt.Errorf("%w: TLS handshake", ErrProtocol)

// CertSource is a certificate chain with its key, from PEM files or PEM bytes;
// exactly one of the two must be given, with its key.
type CertSource struct {
	CertFile, KeyFile string // read by Listen and by TLSProtocol.Reload
	CertPEM, KeyPEM   []byte // must not be changed
}

// TLSConfig says how a listener speaks TLS. It needs a certificate: by CertFile,
// CertPEM, Certificates, SelfSigned or Config. It is copied by TLS, but what it
// points to must not be changed.
type TLSConfig struct {
	// CertFile and KeyFile, or CertPEM and KeyPEM, are the certificate for clients
	// that name no server, or one that no other certificate is for.
	CertFile, KeyFile string
	CertPEM, KeyPEM   []byte

	// Certificates are further certificates, chosen by the server name that a
	// client asks for (SNI, RFC 6066 section 3). Without CertFile and CertPEM
	// the first one is the default.
	Certificates []CertSource

	// SelfSigned serves a development certificate, made in memory, valid for
	// localhost, 127.0.0.1 and ::1, that no client can verify. Listen warns of it.
	SelfSigned bool

	// ClientAuth says whether clients must show a certificate. Default
	// tls.NoClientCert.
	ClientAuth tls.ClientAuthType

	// ClientCAFile or ClientCAPEM are the authorities that clients' certificates
	// are verified by. Default: the system's.
	ClientCAFile string
	ClientCAPEM  []byte

	// NextProtos are the application protocols to choose from (ALPN, RFC 7301);
	// a client that offers others only is refused. Default: no choice.
	NextProtos []string

	// MinVersion is the oldest version accepted. Default tls.VersionTLS12; older
	// ones are refused by Validate.
	MinVersion uint16

	// Required refuses connections of the listener that don't speak TLS, with
	// ErrProtocol. False serves both.
	Required bool

	// Config is where the above is put into, a clone of it; nil means an empty
	// one. Its own certificates and callbacks work too.
	Config *tls.Config
}

// TLSProtocol puts TLS under the stream protocols of a listener. TLS makes one;
// it may be given to any number of listeners.
type TLSProtocol struct {
	cfg     TLSConfig
	mu      sync.Mutex // one load at a time
	current atomic.Pointer[tls.Config]
}

// TLS, given to Listen among the protocols, lets clients speak the other stream
// protocols of the listener over TLS 1.2 and 1.3, on the same address; the first
// bytes tell. Session.Transport is then "tls" for packets and framings, and
// "wss" for WebSocket. An established session has no goroutine. Dialing is by
// DialTLS.
func TLS(cfg TLSConfig) *TLSProtocol { return &TLSProtocol{cfg: cfg} }

// Name implements Protocol.
func (*TLSProtocol) Name() string { return tlsTransport }

// Validate reports the first field that is wrong; it reads the files. Listen
// asks.
func (p *TLSProtocol) Validate() error {
	if p.current.Load() != nil {
		return nil
	}
	return p.Reload()
}

// Reload reads the files again, for the handshakes that begin from now on. On an
// error everything stays as it was. It blocks while it reads files, and may be
// called from any goroutine.
func (p *TLSProtocol) Reload() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	c, err := p.cfg.load()
	if err != nil {
		return fmt.Errorf("engine: TLSConfig.%w", err)
	}
	p.current.Store(c)
	return nil
}

// ServerConfig is the configuration of a handshake that would begin now, for
// another protocol that shall use the same certificates. It must not be changed,
// and is nil before Validate or Listen succeeded.
func (p *TLSProtocol) ServerConfig() *tls.Config { return p.current.Load() }

// load makes the configuration. Its errors begin with the field's name.
func (t *TLSConfig) load() (*tls.Config, error) {
	c := &tls.Config{}
	if t.Config != nil {
		c = t.Config.Clone()
	}
	// Records as large as they may be: the loop collects what there is to say.
	c.DynamicRecordSizingDisabled = true
	if err := t.loadCertificates(c); err != nil {
		return nil, err
	}
	if err := t.loadClientCAs(c); err != nil {
		return nil, err
	}
	if len(t.NextProtos) > 0 {
		c.NextProtos = t.NextProtos
	}
	if t.MinVersion != 0 {
		c.MinVersion = t.MinVersion
	}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	switch {
	case c.MinVersion < tls.VersionTLS12 || c.MinVersion > tls.VersionTLS13:
		return nil, fmt.Errorf("MinVersion %#04x is neither TLS 1.2 nor TLS 1.3", c.MinVersion)
	case c.MaxVersion != 0 && c.MaxVersion < c.MinVersion:
		return nil, fmt.Errorf("Config.MaxVersion %#04x is below MinVersion %#04x", c.MaxVersion, c.MinVersion)
	}
	return c, nil
}

func (t *TLSConfig) loadCertificates(c *tls.Config) error {
	var certs []tls.Certificate
	first := CertSource{t.CertFile, t.KeyFile, t.CertPEM, t.KeyPEM}
	if !first.empty() {
		cert, err := first.load()
		if err != nil {
			return err
		}
		certs = append(certs, cert)
	}
	for i, s := range t.Certificates {
		cert, err := s.load()
		if err != nil {
			return fmt.Errorf("Certificates[%d].%w", i, err)
		}
		certs = append(certs, cert)
	}
	if t.SelfSigned {
		cert, err := devcert.Certificate()
		if err != nil {
			return fmt.Errorf("SelfSigned: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) > 0 {
		c.Certificates = append(certs, c.Certificates...)
	}
	if len(c.Certificates) == 0 && c.GetCertificate == nil && c.GetConfigForClient == nil {
		return errors.New("CertFile: no certificate is given, and SelfSigned is not set")
	}
	return nil
}

func (t *TLSConfig) loadClientCAs(c *tls.Config) error {
	if t.ClientAuth < tls.NoClientCert || t.ClientAuth > tls.RequireAndVerifyClientCert {
		return fmt.Errorf("ClientAuth %d is not a tls.ClientAuthType", t.ClientAuth)
	}
	if t.ClientAuth != tls.NoClientCert {
		c.ClientAuth = t.ClientAuth
	}
	field, pem := "ClientCAPEM", t.ClientCAPEM
	if t.ClientCAFile != "" {
		if len(pem) > 0 {
			return errors.New("ClientCAFile and ClientCAPEM are both set")
		}
		var err error
		if field, pem, err = readPEM("ClientCAFile", t.ClientCAFile); err != nil {
			return err
		}
	}
	if len(pem) == 0 && t.ClientCAFile == "" {
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s holds no certificate", field)
	}
	c.ClientCAs = pool
	return nil
}

func (s *CertSource) empty() bool {
	return s.CertFile == "" && s.KeyFile == "" && len(s.CertPEM) == 0 && len(s.KeyPEM) == 0
}

// load parses the pair. Its errors begin with the field's name.
func (s *CertSource) load() (tls.Certificate, error) {
	files, bytes := s.CertFile != "" || s.KeyFile != "", len(s.CertPEM) > 0 || len(s.KeyPEM) > 0
	certField, certPEM, keyField, keyPEM := "CertPEM", s.CertPEM, "KeyPEM", s.KeyPEM
	switch {
	case files && bytes:
		return tls.Certificate{}, errors.New("CertFile and CertPEM are both set")
	case files:
		var err error
		if certField, certPEM, err = readPEM("CertFile", s.CertFile); err == nil {
			keyField, keyPEM, err = readPEM("KeyFile", s.KeyFile)
		}
		if err != nil {
			return tls.Certificate{}, err
		}
	case len(s.CertPEM) == 0:
		return tls.Certificate{}, errors.New("CertPEM is missing")
	case len(s.KeyPEM) == 0:
		return tls.Certificate{}, errors.New("KeyPEM is missing")
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return cert, fmt.Errorf("%s with %s: %w", certField, keyField, err)
	}
	return cert, nil
}

// readPEM reads a file of the named field. It returns how errors shall call it.
func readPEM(field, name string) (string, []byte, error) {
	if name == "" {
		return field, nil, fmt.Errorf("%s is missing", field)
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return field, nil, fmt.Errorf("%s: %w", field, err)
	}
	return fmt.Sprintf("%s %s", field, name), b, nil
}
