package quicbridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/millrace/millrace/engine"
	"github.com/quic-go/quic-go"
)

// Dial implements engine.Transport: it opens a millrace/1 connection to addr. It
// blocks until the handshake is done or has failed, or ctx ends. It looks up a host
// name and tries one of its addresses, IPv4 if there is one: a UDP packet to a dead
// address is not refused, so a second try would only follow a timeout. Errors wrap
// ctx's error, engine.ErrRefused, ErrHandshakeTimeout (no answer), ErrProtocol (no
// common ALPN, an untrusted certificate), ErrConnectionLost, and quic-go's own.
//
// The session's LocalAddr has the port of the socket, and an unspecified address.
func (p *Protocol) Dial(ctx context.Context, host *engine.Host, addr string) (*engine.Port, error) {
	if p.invalid != nil {
		return nil, p.invalid
	}
	name, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	remote, err := resolve(ctx, name, port)
	if err != nil {
		return nil, err
	}
	socket, err := p.dialer.acquire(remote.Addr().Is4())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrConnectionLost, err)
	}
	limits := host.Limits()
	q, err := socket.transport.Dial(ctx, net.UDPAddrFromAddrPort(remote), p.clientTLS(name), p.config.dialConfig(&limits))
	if err != nil {
		p.dialer.release(socket)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, dialReason(err)
	}
	c := newConn(q, host, &p.config, &limits)
	c.dialed, c.compat = true, false
	sessionPort, err := host.Open(c, engine.OpenInfo{Remote: remote, Local: addrPort(q.LocalAddr()), Dialed: true})
	if err != nil {
		code := closeCode(err)
		_ = q.CloseWithError(code, codeText[code])
		p.dialer.release(socket)
		return nil, err
	}
	host.AccountMemory(connMemory)
	go c.run(sessionPort, func() {
		p.dialer.release(socket)
		host.AccountMemory(-connMemory)
	})
	return sessionPort, nil
}

// resolve looks up one address of a host, and a port by number or name.
func resolve(ctx context.Context, host, port string) (netip.AddrPort, error) {
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" {
		host = "localhost"
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	chosen := addrs[0].Unmap()
	for _, a := range addrs {
		if a := a.Unmap(); a.Is4() {
			chosen = a
			break
		}
	}
	return netip.AddrPortFrom(chosen, uint16(number)), nil
}

// dialer shares a UDP socket of each address family among the sessions dialed
// through one Protocol. The zero value is ready.
type dialer struct {
	mu     sync.Mutex // guards the fields below
	v4, v6 *dialSocket
}

// dialSocket is a UDP socket of dialed sessions. It is open while it has users.
type dialSocket struct {
	socket    *net.UDPConn
	transport *quic.Transport
	users     int
}

// acquire returns the socket for IPv4, or IPv6, and counts one more user.
func (d *dialer) acquire(v4 bool) (*dialSocket, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	slot, network := &d.v6, "udp6"
	if v4 {
		slot, network = &d.v4, "udp4"
	}
	if *slot == nil {
		socket, err := net.ListenUDP(network, nil)
		if err != nil {
			return nil, err
		}
		*slot = &dialSocket{socket: socket, transport: &quic.Transport{Conn: socket}}
	}
	(*slot).users++
	return *slot, nil
}

// release removes one user, and closes the socket after the last one.
func (d *dialer) release(s *dialSocket) {
	d.mu.Lock()
	s.users--
	last := s.users == 0
	if last && d.v4 == s {
		d.v4 = nil
	}
	if last && d.v6 == s {
		d.v6 = nil
	}
	d.mu.Unlock()
	if last {
		_ = errors.Join(s.transport.Close(), s.socket.Close()) // no user is left to report an error to
	}
}

// addrPort returns a's address and port. An IPv4 address is never in its IPv6 form.
func addrPort(a net.Addr) netip.AddrPort {
	u, ok := a.(*net.UDPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := u.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
