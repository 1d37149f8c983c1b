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

// retryHandshakes is how many handshakes may be in progress before new clients must
// prove their address by a Retry (RFC 9000 section 8.1.2). So spoofed addresses
// can't use up engine.Config.MaxHandshakes; if a quarter of that is less, it
// applies. With MaxSessionsPerAddr or AcceptRate all clients must prove it.
const retryHandshakes = 256

// errNotAccepting is the reason for connections that arrive while the listener
// closes.
var errNotAccepting = fmt.Errorf("%w: the listener stopped accepting", engine.ErrRefused)

// endpoint is a listening socket.
type endpoint struct {
	protocol  *Protocol
	host      *engine.Host
	limits    engine.Limits
	socket    *net.UDPConn
	transport *quic.Transport
	listener  *quic.Listener

	retryFrom  int64        // number of handshakes from which on a Retry is sent
	handshakes atomic.Int64 // in progress
	stop       sync.Once    // of StopAccepting
	stopped    atomic.Bool
	work       sync.WaitGroup
}

// Listen implements engine.Transport. Errors: an invalid Config, no certificate, and those of the socket.
func (p *Protocol) Listen(host *engine.Host, addr string) (engine.Endpoint, error) {
	if p.invalid != nil {
		return nil, p.invalid
	}
	local, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return nil, fmt.Errorf("quicbridge: listen: %w", err)
	}
	tlsConfig, err := p.serverTLS(host, local.IP)
	if err != nil {
		return nil, err
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
		e.retryFrom = 0 // an unproven address must not count against its owner's limits
	}
	e.transport = &quic.Transport{
		Conn:                socket,
		StatelessResetKey:   new(quic.StatelessResetKey),
		VerifySourceAddress: func(net.Addr) bool { return e.handshakes.Load() >= e.retryFrom },
		ConnContext:         e.admit,
	}
	// If this side has no state of a connection, a stateless reset ends it at the
	// peer without an idle timeout.
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
	remote  netip.AddrPort // the address that was admitted; the peer may migrate
	done    chan struct{}  // closed when the handshake is done
	settled atomic.Bool
}

// attemptKey finds a connection's attempt in its context.
type attemptKey struct{}

// admit asks the engine whether to accept a new connection, before it costs
// resources. quic-go answers an error with CONNECTION_REFUSED (RFC 9000 section
// 20.1). If an admitted connection never becomes a session, Host.Abandon is called
// once for it.
func (e *endpoint) admit(ctx context.Context, client *quic.ClientInfo) (context.Context, error) {
	a := &attempt{remote: addrPort(client.RemoteAddr), done: make(chan struct{})}
	if err := e.host.Admit(a.remote); err != nil {
		return nil, err
	}
	e.handshakes.Add(1)
	e.host.AccountMemory(connMemory)
	// The goroutine lives only as long as the handshake, and the context has no
	// parent. So an open session keeps no memory of either; with context.AfterFunc
	// it would.
	e.work.Go(func() {
		select {
		case <-a.done:
		case <-ctx.Done():
			if a.settle() {
				e.host.Abandon(a.remote, dialReason(context.Cause(ctx)))
				e.handshakes.Add(-1)
				e.host.AccountMemory(-connMemory)
			}
		}
	})
	return context.WithValue(context.Background(), attemptKey{}, a), nil
}

// settle ends the attempt. Only the first call returns true; its caller must
// decrement handshakes.
func (a *attempt) settle() bool { return !a.settled.Swap(true) }

// accept starts a goroutine for each connection, because open may block.
func (e *endpoint) accept() {
	for {
		q, err := e.listener.Accept(context.Background())
		if err != nil {
			if !e.stopped.Load() {
				e.host.Logger().Error("quicbridge: the listening socket failed", "addr", e.Addr(), "error", err)
			}
			return
		}
		e.work.Go(func() { e.open(q) })
	}
}

// open makes a session of a connection whose handshake is done. It blocks until the
// session has ended.
func (e *endpoint) open(q *quic.Conn) {
	a := q.Context().Value(attemptKey{}).(*attempt)
	if !a.settle() {
		return // the connection has ended already
	}
	e.handshakes.Add(-1)
	close(a.done)
	defer e.host.AccountMemory(-connMemory)
	if e.stopped.Load() {
		e.host.Abandon(a.remote, errNotAccepting)
		_ = q.CloseWithError(CodeRefused, codeText[CodeRefused])
		return
	}
	c := newConn(q, e.host, &e.protocol.config, &e.limits)
	port, err := e.host.Open(c, engine.OpenInfo{Remote: a.remote, Local: addrPort(q.LocalAddr()), Admitted: true, Context: q.Context()})
	if err != nil {
		code := closeCode(err)
		_ = q.CloseWithError(code, codeText[code])
		return
	}
	c.run(port, nil)
}

// StopAccepting implements engine.Endpoint. It refuses the handshakes in progress,
// and does not block.
func (e *endpoint) StopAccepting() {
	e.stop.Do(func() {
		e.stopped.Store(true)
		e.work.Go(func() { _ = e.listener.Close() }) // it waits for the handshakes
	})
}

// Close implements engine.Endpoint. It blocks until the goroutines of all
// connections have returned.
func (e *endpoint) Close() error {
	e.StopAccepting()
	err := errors.Join(e.transport.Close(), e.socket.Close())
	e.work.Wait()
	return err
}
