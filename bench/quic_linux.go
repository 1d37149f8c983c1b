package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"github.com/quic-go/quic-go"
)

const (
	quicALPN = "millrace/1"    // docs/WIRE.md section 3
	quicIdle = 5 * time.Second // after which a silent server counts as dead
)

// dialQUIC connects and opens the streams. The server sees a stream when its first
// bytes arrive. In a load of separate clients each request opens its own stream.
func dialQUIC(ctx context.Context, l *load, t target, cfg *tls.Config) (*carrier, error) {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{quicALPN}
	conn, err := quic.DialAddr(ctx, t.addr, cfg, &quic.Config{
		MaxIdleTimeout: quicIdle, KeepAlivePeriod: quicIdle / 5,
		InitialStreamReceiveWindow: 4 << 20, InitialConnectionReceiveWindow: 8 << 20,
	})
	if err != nil {
		return nil, err
	}
	c := newCarrier(l, func() { _ = conn.CloseWithError(0, "") }) // it is given up anyway
	for range l.cfg.Streams {
		if l.cfg.Separate {
			c.add(&pump{quic: conn})
			continue
		}
		stream, err := conn.OpenStream()
		if err != nil {
			c.close()
			return nil, fmt.Errorf("stream %d of %d: %w", len(c.pumps)+1, l.cfg.Streams, err)
		}
		c.add(&pump{stream: stream, cancelRead: func() { stream.CancelRead(0) }})
	}
	return c, nil
}

// explainQUIC adds the likely cause to the handshake timeout of a silent server.
func explainQUIC(err error) error {
	var idle *quic.IdleTimeoutError
	var handshake *quic.HandshakeTimeoutError
	if errors.As(err, &idle) || errors.As(err, &handshake) {
		return fmt.Errorf("no QUIC server answers there: %w", err)
	}
	return err
}
