package quicbridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/engine"
	"github.com/quic-go/quic-go"
)

const (
	// maxHandshakes bounds the handshakes that an endpoint has under way. More
	// are refused until some are done.
	maxHandshakes = 1024

	// retryHandshakes is how many handshakes may be under way before new clients
	// have to prove their address by a Retry (RFC 9000 section 8.1.2), so that
	// spoofed ones can't use up maxHandshakes.
	retryHandshakes = 256
)

// Why a connection was turned away.
var (
	errManyHandshakes = fmt.Errorf("%w: too many handshakes under way", engine.ErrRefused)
	errNotAccepting   = fmt.Errorf("%w: the listener stopped accepting", engine.ErrRefused)
)

// endpoint is a listening socket.
type endpoint struct {
	protocol  *Protocol
	host      *engine.Host
	limits    engine.Limits
	socket    *net.UDPConn
	transport *quic.Transport
	listener  *quic.Listener

	handshakes atomic.Int64 // under way
	stop       sync.Once    // of StopAccepting
	stopped    atomic.Bool
	work       sync.WaitGroup
}

// Listen implements engine.Transport.
func (p *Protocol) Listen(host *engine.Host, addr string) (engine.Endpoint, error) {
	if p.invalid != nil {
		return nil, p.invalid
	}
	tlsConfig, err := p.serverTLS()
	if err != nil {
		return nil, err
	}
	local, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("quicbridge: listen: %w", err)
	}
	socket, err := net.ListenUDP("udp", local)
	if err != nil {
		return nil, fmt.Errorf("quicbridge: listen: %w", err)
	}
	e := &endpoint{protocol: p, host: host, limits: host.Limits(), socket: socket}
	e.transport = &quic.Transport{
		Conn:                socket,
		StatelessResetKey:   new(quic.StatelessResetKey),
		VerifySourceAddress: func(net.Addr) bool { return e.handshakes.Load() >= retryHandshakes },
		ConnContext:         e.admit,
	}
	// Peers of connections that this side has forgotten learn it by a stateless
	// reset instead of waiting for their idle timeout.
	_, _ = rand.Read(e.transport.StatelessResetKey[:]) // it never fails
	e.listener, err = e.transport.Listen(tlsConfig, p.config.quicConfig(&e.limits))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("quicbridge: listen: %w", err), e.transport.Close(), socket.Close())
	}
	e.work.Go(e.accept)
	return e, nil
}

// Addr implements engine.Endpoint.
func (e *endpoint) Addr() net.Addr { return e.socket.LocalAddr() }

// attempt is a connection between its first packet and its session.
type attempt struct {
	endpoint *endpoint
	forget   func() bool // stops watching for the connection's end
	settled  atomic.Bool
}

// attemptKey finds a connection's attempt in its context.
type attemptKey struct{}

// admit decides on a new connection before anything is spent on it, and sees to
// it that each one that never becomes a session is counted.
func (e *endpoint) admit(ctx context.Context, _ *quic.ClientInfo) (context.Context, error) {
	if e.handshakes.Add(1) > maxHandshakes {
		e.handshakes.Add(-1)
		e.host.Refused(errManyHandshakes)
		return nil, errManyHandshakes
	}
	a := &attempt{endpoint: e}
	a.forget = context.AfterFunc(ctx, func() {
		if a.settle() {
			e.host.Refused(dialReason(context.Cause(ctx)))
		}
	})
	return context.WithValue(ctx, attemptKey{}, a), nil
}

// settle ends the attempt; only the first call returns true.
func (a *attempt) settle() bool {
	if a.settled.Swap(true) {
		return false
	}
	a.endpoint.handshakes.Add(-1)
	return true
}

// accept hands each connection to a goroutine of its own at once, because what
// follows may wait: nobody waits for anybody else's.
func (e *endpoint) accept() {
	for {
		q, err := e.listener.Accept(context.Background())
		if err != nil {
			if !e.stopped.Load() {
				e.protocol.config.Logger.Error("quicbridge: the listening socket failed", "addr", e.Addr(), "error", err)
			}
			return
		}
		e.work.Go(func() { e.open(q) })
	}
}

// open makes a session of a connection whose handshake is done, and runs it
// until it has ended.
func (e *endpoint) open(q *quic.Conn) {
	a := q.Context().Value(attemptKey{}).(*attempt)
	if !a.settle() {
		return // it is gone already
	}
	a.forget()
	if e.stopped.Load() {
		e.host.Refused(errNotAccepting)
		_ = q.CloseWithError(CodeRefused, codeText[CodeRefused])
		return
	}
	c := newConn(q, &e.protocol.config, &e.limits)
	session, err := e.host.Open(c, engine.OpenInfo{Remote: addrPort(q.RemoteAddr()), Local: addrPort(q.LocalAddr())})
	if err != nil {
		code := closeCode(err)
		_ = q.CloseWithError(code, codeText[code])
		return
	}
	c.run(session, nil)
}

// StopAccepting implements engine.Endpoint. Handshakes under way are refused.
func (e *endpoint) StopAccepting() {
	e.stop.Do(func() {
		e.stopped.Store(true)
		e.work.Go(func() { _ = e.listener.Close() }) // it waits for the handshakes
	})
}

// Close implements engine.Endpoint.
func (e *endpoint) Close() error {
	e.StopAccepting()
	err := errors.Join(e.transport.Close(), e.socket.Close())
	e.work.Wait()
	return err
}
