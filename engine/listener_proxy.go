package engine

import (
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/internal/proxyproto"
	"github.com/millrace/millrace/internal/reactor"
)

// ErrProxyHeader: a trusted proxy sent no PROXY header, or a wrong one. It is also
// ErrProtocol.
var ErrProxyHeader = fmt.Errorf("%w: PROXY header", ErrProtocol)

// ProxyProtocol, passed to Listen among the protocols, lets proxies send the address of
// their client in a header of the PROXY protocol, version 1 or 2, before all other
// bytes, including TLS (haproxy's proxy-protocol.txt).
//
// From a trusted peer the header is required: without it, or with a wrong one, the
// connection ends with ErrProxyHeader. It must arrive within Config.HandshakeTimeout,
// and is at most 107 bytes (version 1) or 16 + 536 (version 2). Session.RemoteAddr and
// Config.MaxSessionsPerAddr then use the address in the header, or the proxy's own
// address if the header has no TCP address (UNKNOWN, LOCAL, UDP, Unix). Headers from
// other peers are not parsed; the protocols get them as data.
//
// It applies to the listener's stream protocols only, not to QUIC.
type ProxyProtocol struct {
	// Trusted lists the networks of the proxies. It must not be empty for TCP. On a
	// Unix socket every peer is trusted, and Trusted may be empty.
	Trusted []netip.Prefix
}

// Name implements Protocol. No session has it as its transport.
func (ProxyProtocol) Name() string { return "proxy" }

// Validate reports an invalid prefix. Listen calls it.
func (p ProxyProtocol) Validate() error {
	for i, prefix := range p.Trusted {
		if !prefix.IsValid() {
			return fmt.Errorf("engine: ProxyProtocol.Trusted[%d] is not a network", i)
		}
	}
	return nil
}

func (p *ProxyProtocol) trusts(remote netip.AddrPort, unixSocket bool) bool {
	if unixSocket {
		return true
	}
	addr := remote.Addr().Unmap().WithZone("")
	for _, prefix := range p.Trusted {
		if prefix.Contains(addr) {
			return true
		}
	}
	return false
}

// admissionAddr returns the address by which an accepted connection is admitted: none
// if it starts with a proxy's header, which carries the address.
func (l *Listener) admissionAddr(remote netip.AddrPort) (addr netip.AddrPort, header bool) {
	if l.proxy != nil && l.proxy.trusts(remote, l.name != "") {
		return netip.AddrPort{}, true
	}
	return remote, false
}

// decodeProxyHeader decodes stageProxyHeader: b starts with a PROXY header. On the loop.
func (c *socketConn) decodeProxyHeader(b []byte) (rest []byte, more bool) {
	src, n, err := proxyproto.Parse(b)
	if err != nil {
		c.endBehindMessages(proxyError(err))
		return nil, false
	}
	if n == 0 {
		return b, false
	}
	if !src.IsValid() {
		src = reactor.RemoteAddr(c.sock.FD)
	}
	if !c.refused && !admitReal(c, src) {
		return nil, false
	}
	l := c.session.listener
	c.stage = l.firstStage(stageTLSOrPlain)
	switch {
	case c.refused: // its deadline is set already
	case c.stage == stageUnknown && l.sole() != nil:
		c.adopt(l.sole())
	default:
		c.startDeadline(deadlineSilence, c.core().engine.cfg.SniffTimeout)
	}
	return b[n:], true
}

// admitReal makes src the session's address and counts it against
// Config.MaxSessionsPerAddr. If there are too many, the session is refused. It returns
// false if the session was closed without an answer.
func admitReal(c *socketConn, src netip.AddrPort) bool {
	s, e := c.session, c.core().engine
	if e.admission.enterAddr(&e.cfg, src.Addr()) {
		s.remote = src
		return true
	}
	return c.refuse(errMaxPerAddr, src, len(s.listener.streams) >= 2)
}

// refuse makes the session of a peer at remote, which was admitted, as if accepted had
// refused it for that reason. It returns false if the session was closed without an
// answer; answer is whether its protocol may have one.
func (c *socketConn) refuse(reason error, remote netip.AddrPort, answer bool) bool {
	s, e := c.session, c.core().engine
	if !answer || !e.admission.beginRefusal() {
		c.stopInput(inputDraining)
		c.close(reason, true)
		return false
	}
	e.countRefused(reason, remote, s.listener)
	e.admission.endHandshake()
	e.release(s.listener, s.remote.Addr())
	c.refused, s.ending = true, reason
	c.startDeadline(deadlineRefusal, refusalTimeout)
	return true
}

func proxyError(reason error) error { return fmt.Errorf("%w: %w", ErrProxyHeader, reason) }
