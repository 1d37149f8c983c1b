package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
)

// DialTLS returns a protocol that speaks inner over TLS, for Dial. Transport names are
// those of TLS. The server's certificate is verified for the host that is dialed,
// unless cfg disables that. A nil cfg means the system's authorities and TLS 1.2 or
// newer. Each dial clones cfg, which must not be changed.
func DialTLS(inner StreamProtocol, cfg *tls.Config) StreamProtocol {
	return &dialTLS{inner, cfg}
}

type dialTLS struct {
	inner StreamProtocol
	cfg   *tls.Config
}

// Name implements Protocol.
func (d *dialTLS) Name() string { return secureName(d.inner.Name()) }

// Validate makes Listen refuse it.
func (d *dialTLS) Validate() error { return errors.New("DialTLS is for Dial; Listen takes TLS") }

// Match implements StreamProtocol; it is never called.
func (d *dialTLS) Match([]byte) Match { return MatchNo }

// Accept implements StreamProtocol; it is never called.
func (d *dialTLS) Accept(c *Control) Codec { return d.inner.Accept(c) }

// Connect implements StreamProtocol: TLS's handshake, then inner's.
func (d *dialTLS) Connect(ctx context.Context, conn net.Conn, addr string, limits Limits) (Codec, []byte, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if d.cfg != nil {
		cfg = d.cfg.Clone()
	}
	cfg.DynamicRecordSizingDisabled = true
	if cfg.ServerName == "" {
		cfg.ServerName = hostOf(addr)
	}
	t := &tlsLayer{real: conn, established: true, leftover: true}
	t.conn = tls.Client((*tlsPipe)(t), cfg)
	if err := t.conn.HandshakeContext(ctx); err != nil {
		var network net.Error
		if ctx.Err() != nil || errors.As(err, &network) && network.Timeout() {
			return nil, nil, fmt.Errorf("TLS handshake: %w", err)
		}
		return nil, nil, fmt.Errorf("%w: %w", ErrTLSHandshake, err)
	}
	codec, rest, err := d.inner.Connect(ctx, t.conn, addr, limits)
	if err != nil {
		return nil, nil, err
	}
	return &securedCodec{codec, t}, rest, nil
}

func hostOf(addr string) string {
	if host, _, err := net.SplitHostPort(addr); err == nil {
		return host
	}
	return addr
}

// securedCodec carries a dialed session's TLS from Connect to setDialed.
type securedCodec struct {
	Codec
	layer *tlsLayer
}

// setDialed gives c the codec that Connect returned, and its TLS layer if there is
// one, which uses the session's socket from here on. It is called before the session
// is published.
func setDialed(c *socketConn, codec Codec) {
	if sc, ok := codec.(*securedCodec); ok {
		sc.layer.real = nil
		sc.layer.sock = c
		c.tls, codec = sc.layer, sc.Codec
	}
	c.setCodec(codec)
	c.stage = stageHandshake
}
