package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// errUnanswered: a stream ended before its reply was complete.
var errUnanswered = errors.New("the stream ended without the whole reply")

// dialSeparate connects a client of its own, for one session.
func dialSeparate(ctx context.Context, l *load, t target, cfg *tls.Config) (*carrier, error) {
	dialer := net.Dialer{LocalAddr: source(t, l.cfg.Sessions)}
	conn, err := dialer.DialContext(ctx, t.network(), t.addr)
	if err != nil {
		return nil, err
	}
	if t.secure() {
		secure := tls.Client(conn, cfg)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		conn = secure
	}
	if t.websocket() {
		if err := upgrade(ctx, conn, t); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return separate(l, conn), nil
}

// separate is the carrier of conn, which has one session.
func separate(l *load, conn net.Conn) *carrier {
	c := newCarrier(l, func() { conn.Close() })
	c.add(&pump{stream: conn, cancelRead: func() {
		_ = conn.SetReadDeadline(time.Unix(1, 0)) // it fails on a closed connection, whose Read returns too
	}})
	return c
}

// exchange sends each request on a stream of its own, ends this direction, and reads the
// reply up to the server's end of the stream.
func (p *pump) exchange() {
	buffer := make([]byte, pumpReadSize)
	for {
		b, next, done := p.outgoing()
		if done {
			return
		}
		if len(b) == 0 {
			p.sleep(next)
			continue
		}
		if err := p.ask(b, buffer); err != nil {
			p.lose(err)
			return
		}
	}
}

// ask makes one exchange.
func (p *pump) ask(request, buffer []byte) error {
	stream, err := p.quic.OpenStreamSync(p.quic.Context())
	if err != nil {
		return err
	}
	defer stream.CancelRead(0) // no effect after the end of the stream
	if _, err := stream.Write(request); err != nil {
		return err
	}
	if err := stream.Close(); err != nil {
		return err
	}
	for {
		n, err := stream.Read(buffer)
		p.mu.Lock()
		if n > 0 {
			p.receive(buffer[:n])
		}
		failed, rest := p.s.failed != nil, p.s.outstanding()
		p.mu.Unlock()
		switch {
		case failed:
			return errUnanswered // lose keeps the first fault
		case errors.Is(err, io.EOF) && rest:
			return errUnanswered
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}
