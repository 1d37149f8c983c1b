package quicbridge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/engine"
	"github.com/quic-go/quic-go"
)

// retryHandshakes is how many handshakes may be under way before new clients have
// to prove their address by a Retry (RFC 9000 section 8.1.2), so that spoofed ones
// can't use up Config.MaxHandshakes; a quarter of that if it is less. With
// Config.MaxSessionsPerAddr or AcceptRate all have to.
const retryHandshakes = 256

// errNotAccepting turns away what came while the listener closed.
var errNotAccepting = fmt.Errorf("%w: the listener stopped accepting", engine.ErrRefused)

// endpoint is a listening socket.
type endpoint struct {
	protocol  *Protocol
	host      *engine.Host
	limits    engine.Limits
	socket    *net.UDPConn
	transport *quic.Transport
	listener  *quic.Listener

	retryFrom  int64        // handshakes under way
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
	e := &endpoint{protocol: p, host: host, limits: host.Limits(), socket: socket, retryFrom: retryHandshakes}
	if most := e.limits.MaxHandshakes; most > 0 {
		e.retryFrom = min(e.retryFrom, int64(most/4))
	}
	if e.limits.MaxSessionsPerAddr > 0 || e.limits.AcceptRate > 0 {
		e.retryFrom = 0 // an address that isn't proven must not count against its owner
	}
	e.transport = &quic.Transport{
		Conn:                socket,
		StatelessResetKey:   new(quic.StatelessResetKey),
		VerifySourceAddress: func(net.Addr) bool { return e.handshakes.Load() >= e.retryFrom },
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
	remote  netip.AddrPort // by which it was admitted; the peer may move
	done    chan struct{}  // closed when the handshake is
	settled atomic.Bool
}

// attemptKey finds a connection's attempt in its context.
type attemptKey struct{}

// admit lets the engine decide on a new connection before anything is spent on
// it: quic-go answers an error with CONNECTION_REFUSED (RFC 9000 section 20.1). It
// sees to it that each one that never becomes a session is counted.
func (e *endpoint) admit(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
	a := &attempt{remote: addrPort(client.RemoteAddr), done: make(chan struct{})}
	if err := e.host.Admit(a.remote); err != nil {
		return nil, err
	}
	e.handshakes.Add(1)
	// A goroutine for as long as the handshake takes, and a context without a
	// parent: a session that is open keeps nothing of either, as it would of
	// context.AfterFunc.
	e.work.Go(func() {
		select {
		case <-a.done:
		case <-ctx.Done():
			if a.settle() {
				e.host.Abandon(a.remote, dialReason(context.Cause(ctx)))
				e.handshakes.Add(-1)
			}
		}
	})
	return context.WithValue(context.Background(), attemptKey{}, a), nil
}

// settle ends the attempt; only the first call returns true, and its caller counts
// it off.
func (a *attempt) settle() bool { return !a.settled.Swap(true) }

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
	e.handshakes.Add(-1)
	close(a.done)
	if e.stopped.Load() {
		e.host.Abandon(a.remote, errNotAccepting)
		_ = q.CloseWithError(CodeRefused, codeText[CodeRefused])
		return
	}
	c := newConn(q, &e.protocol.config, &e.limits)
	session, err := e.host.Open(c, engine.OpenInfo{Remote: a.remote, Local: addrPort(q.LocalAddr()), Admitted: true})
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
