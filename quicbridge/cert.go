package quicbridge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/millrace/millrace/engine"
)

// errNoCertificate is returned by Listen if Config.TLS has no source of
// certificates.
var errNoCertificate = errors.New("quicbridge: Config.TLS has no certificate")

// errNoTLS is returned by Listen on other addresses than loopback.
var errNoTLS = errors.New("quicbridge: no certificate: set Config.TLS or SelfSigned, or give Listen engine.TLS")

// serverTLS returns the TLS configuration of a listener. It selects by the client's
// ALPN. If the client offers millrace/1, that is selected. A client without ALPN is
// a msgtrans peer. Any other handshake fails with the alert
// no_application_protocol; the listener continues.
func (p *Protocol) serverTLS(host *engine.Host, local net.IP) (*tls.Config, error) {
	base, err := p.certificates(host, local)
	if err != nil {
		return nil, err
	}
	own := base.GetConfigForClient
	usual := newServing(base)
	var last atomic.Pointer[serving] // made from the last configuration that own returned
	packets := usual.packets
	packets.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen := usual
		if own != nil {
			c, err := own(hello)
			if err != nil {
				return nil, err
			}
			if c != nil {
				if chosen = last.Load(); chosen == nil || chosen.base != c {
					chosen = newServing(c)
					last.Store(chosen)
				}
			}
		}
		switch {
		case len(hello.SupportedProtos) == 0:
			return chosen.compat, nil
		case chosen == usual:
			return nil, nil // packets itself
		default:
			return chosen.packets, nil
		}
	}
	return packets, nil
}

// serving holds one configuration for each kind of peer. They are made from base
// only once, because a tls.Config holds the keys of its session tickets.
type serving struct{ base, packets, compat *tls.Config }

func newServing(base *tls.Config) *serving {
	return &serving{base: base, packets: withALPN(base, ALPN), compat: withALPN(base)}
}

// withALPN returns a copy of base that negotiates protos and has no
// GetConfigForClient.
func withALPN(base *tls.Config, protos ...string) *tls.Config {
	c := base.Clone()
	c.NextProtos = protos
	c.GetConfigForClient = nil
	c.MinVersion = tls.VersionTLS13 // RFC 9001 section 4.2
	return c
}

// certificates returns Config.TLS, the configuration of the listener's TLS protocol, or
// one with the development certificate.
func (p *Protocol) certificates(host *engine.Host, local net.IP) (*tls.Config, error) {
	if own := p.config.TLS; own != nil {
		if len(own.Certificates) == 0 && own.GetCertificate == nil && own.GetConfigForClient == nil {
			return nil, errNoCertificate
		}
		return own, nil
	}
	if shared := host.TLS(); shared != nil {
		return &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			c := shared.ServerConfig() // which Reload may change
			if c.GetConfigForClient != nil {
				if own, err := c.GetConfigForClient(hello); err != nil || own != nil {
					return own, err
				}
			}
			return c, nil
		}}, nil
	}
	if !p.config.SelfSigned && !local.IsLoopback() {
		return nil, errNoTLS
	}
	development := engine.TLS(engine.TLSConfig{SelfSigned: true})
	if err := development.Validate(); err != nil {
		return nil, fmt.Errorf("quicbridge: %w", err)
	}
	host.Logger().Warn("quicbridge: serving with a development certificate that no client can verify; set Config.TLS, or give Listen engine.TLS")
	return development.ServerConfig(), nil
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
