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

// CertSource is a certificate chain with its key, from PEM files or PEM bytes. Exactly one
// of the two must be set, with its key.
type CertSource struct {
	CertFile, KeyFile string // read by Listen and by TLSProtocol.Reload
	CertPEM, KeyPEM   []byte // must not be changed
}

// TLSConfig configures TLS of a listener. It needs a certificate: by CertFile, CertPEM,
// Certificates, SelfSigned or Config. TLS copies it, but the slices and the tls.Config in
// it must not be changed.
type TLSConfig struct {
	// CertFile and KeyFile, or CertPEM and KeyPEM, are the certificate for clients that
	// name no server, or a server without a certificate of its own.
	CertFile, KeyFile string
	CertPEM, KeyPEM   []byte

	// Certificates are further certificates. The server name of the client selects one
	// (SNI, RFC 6066 section 3). Without CertFile and CertPEM the first one is the
	// default.
	Certificates []CertSource

	// SelfSigned serves a development certificate, made in memory, valid for localhost,
	// 127.0.0.1 and ::1, that no client can verify. Listen logs a warning.
	SelfSigned bool

	// ClientAuth is whether clients must send a certificate. Default tls.NoClientCert.
	ClientAuth tls.ClientAuthType

	// ClientCAFile or ClientCAPEM are the authorities that verify clients' certificates.
	// Default: the system's.
	ClientCAFile string
	ClientCAPEM  []byte

	// NextProtos are the application protocols to choose from (ALPN, RFC 7301). A client
	// that offers only others is refused. Default: no negotiation.
	NextProtos []string

	// MinVersion is the oldest TLS version accepted. Default and minimum
	// tls.VersionTLS12.
	MinVersion uint16

	// Required refuses connections without TLS, with ErrProtocol. False serves both.
	Required bool

	// Config is the base to a clone of which the fields above are added; nil means an
	// empty one. Its own certificates and callbacks work too.
	Config *tls.Config
}

// TLSProtocol puts TLS under the stream protocols of a listener. TLS makes one, which any
// number of listeners may share.
type TLSProtocol struct {
	cfg     TLSConfig
	mu      sync.Mutex // one load at a time
	current atomic.Pointer[tls.Config]
}

// TLS, passed to Listen among the protocols, lets clients use the other stream protocols
// of the listener over TLS 1.2 and 1.3, on the same address; the first bytes select.
// Session.Transport is then "tls" for packets and framings, and "wss" for WebSocket. An
// open session has no goroutine. DialTLS is for dialing.
func TLS(cfg TLSConfig) *TLSProtocol { return &TLSProtocol{cfg: cfg} }

// Name implements Protocol.
func (*TLSProtocol) Name() string { return tlsTransport }

// Validate reports the first field that is wrong. It reads the files. Listen calls it.
func (p *TLSProtocol) Validate() error {
	if p.current.Load() != nil {
		return nil
	}
	return p.Reload()
}

// Reload reads the files again, for handshakes that begin after it. On an error nothing
// changes. It blocks while it reads files. Any goroutine may call it, but not a callback.
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

// ServerConfig returns the configuration for new handshakes, for another protocol that
// must use the same certificates. The caller must not change it. It is nil before the
// first successful Validate, Reload or Listen.
func (p *TLSProtocol) ServerConfig() *tls.Config { return p.current.Load() }

// load makes the configuration. Its errors begin with the field's name.
func (t *TLSConfig) load() (*tls.Config, error) {
	c := &tls.Config{}
	if t.Config != nil {
		c = t.Config.Clone()
	}
	// Always use full-size records: writes are already batched.
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

// readPEM reads a file of the named field. It also returns the field's name for errors.
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
