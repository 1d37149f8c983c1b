package quicbridge

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"sync"
	"time"
)

// errNoCertificate is returned by Listen for a Config.TLS that serves nobody.
var errNoCertificate = errors.New("quicbridge: Config.TLS has no certificate")

// developmentLifetime is short, so that nobody comes to rely on it.
const developmentLifetime = 14 * 24 * time.Hour

// developmentCertificate returns the process's own self-signed certificate. Its
// key is on P-256, because msgtrans's clients don't accept P-384.
var developmentCertificate = sync.OnceValues(func() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("quicbridge: development key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("quicbridge: development serial: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Millrace development"},
		NotBefore:             now.Add(-time.Hour), // clocks differ
		NotAfter:              now.Add(developmentLifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("quicbridge: development certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("quicbridge: development certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
})

// serverTLS returns the configuration of a listener, which chooses by the
// client's ALPN: with millrace/1 among its offers that is selected; a client
// without ALPN is a msgtrans peer; any other handshake fails by itself with the
// alert no_application_protocol, and the listener goes on.
func (p *Protocol) serverTLS() (*tls.Config, error) {
	base, err := p.certificates()
	if err != nil {
		return nil, err
	}
	own := base.GetConfigForClient
	compat := withALPN(base)
	packets := withALPN(base, ALPN)
	packets.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		var chosen *tls.Config
		var err error
		if own != nil {
			chosen, err = own(hello)
		}
		msgtrans := len(hello.SupportedProtos) == 0
		switch {
		case err != nil:
			return nil, err
		case chosen != nil && msgtrans:
			return withALPN(chosen), nil
		case chosen != nil:
			return withALPN(chosen, ALPN), nil
		case msgtrans:
			return compat, nil
		default:
			return nil, nil // packets itself, which spares each connection a copy
		}
	}
	return packets, nil
}

// withALPN returns a copy of base that negotiates protos and asks nobody else.
func withALPN(base *tls.Config, protos ...string) *tls.Config {
	c := base.Clone()
	c.NextProtos = protos
	c.GetConfigForClient = nil
	return c
}

// certificates returns Config.TLS, or a configuration with the development
// certificate if there is none.
func (p *Protocol) certificates() (*tls.Config, error) {
	if own := p.config.TLS; own != nil {
		if len(own.Certificates) == 0 && own.GetCertificate == nil && own.GetConfigForClient == nil {
			return nil, errNoCertificate
		}
		return own, nil
	}
	certificate, err := developmentCertificate()
	if err != nil {
		return nil, err
	}
	p.config.Logger.Warn("quicbridge: Config.TLS is not set; serving with a development certificate that no client can verify")
	return &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13}, nil
}

// clientTLS returns the configuration of a dialed connection to host.
func (p *Protocol) clientTLS(host string) *tls.Config {
	base := p.config.TLS
	if base == nil {
		base = &tls.Config{MinVersion: tls.VersionTLS13}
	}
	c := withALPN(base, ALPN)
	if c.ServerName == "" {
		c.ServerName = host
	}
	return c
}
