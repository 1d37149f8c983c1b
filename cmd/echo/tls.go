package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/millrace/millrace/engine"
)

// tlsFlags are the flags for the certificate of TLS and QUIC.
type tlsFlags struct {
	cert, key  string
	selfSigned bool
}

// register adds the flags to fs.
func (f *tlsFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&f.cert, "tls-cert", "", "PEM `FILE` of a certificate: serve TLS and wss at the same address too, "+
		"and QUIC with it; SIGHUP reads it again")
	fs.StringVar(&f.key, "tls-key", "", "PEM `FILE` of its key")
	fs.BoolVar(&f.selfSigned, "tls-self-signed", false, "serve TLS and wss with a self-made certificate that no client can verify")
}

// protocol returns TLS as the flags configure it, with its files read; nil without any.
func (f *tlsFlags) protocol() (*engine.TLSProtocol, error) {
	switch {
	case f.selfSigned && (f.cert != "" || f.key != ""):
		return nil, errors.New("--tls-self-signed makes a certificate, --tls-cert and --tls-key name one: choose")
	case f.cert != "" && f.key == "":
		return nil, errors.New("--tls-cert needs --tls-key")
	case f.key != "" && f.cert == "":
		return nil, errors.New("--tls-key needs --tls-cert")
	case !f.selfSigned && f.cert == "":
		return nil, nil
	}
	p := engine.TLS(engine.TLSConfig{CertFile: f.cert, KeyFile: f.key, SelfSigned: f.selfSigned})
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return p, nil
}

// quicTLS returns a configuration with the current certificates of TLS. It is nil if there
// are none; QUIC then makes its own.
func (o *options) quicTLS() *tls.Config {
	if o.tls == nil {
		return nil
	}
	return &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return o.tls.ServerConfig(), nil
	}}
}

// watchReloads returns a channel of the signal to read the certificate files
// again. Without TLS the signal ends the program, as by default.
func (o *options) watchReloads() (reloads chan os.Signal, stop func()) {
	reloads = make(chan os.Signal, 1)
	if o.tls == nil {
		return reloads, func() {}
	}
	signal.Notify(reloads, syscall.SIGHUP)
	return reloads, func() { signal.Stop(reloads) }
}

// reload reads the certificate files again.
func (s *server) reload() {
	if err := s.opts.tls.Reload(); err != nil {
		s.logger.Error("the certificate stays as it was", "error", err)
		return
	}
	s.logger.Info("certificate read again")
}
