package engine

import (
	"fmt"
	"net/netip"

	"github.com/millrace/millrace/internal/proxyproto"
	"github.com/millrace/millrace/internal/reactor"
)

// ErrProxyHeader: a proxy that is trusted sent no PROXY header, or a wrong one.
// It is also ErrProtocol.
var ErrProxyHeader = fmt.Errorf("%w: PROXY header", ErrProtocol)

// ProxyProtocol, given to Listen among the protocols, lets proxies say whom they
// speak for, by a header of the PROXY protocol, version 1 or 2, in front of
// everything else, TLS included (haproxy's proxy-protocol.txt).
//
// From a trusted peer the header is required: without it, or with a wrong one,
// the connection ends with ErrProxyHeader. It must come within
// Config.HandshakeTimeout, and is at most 107 bytes (version 1) or 16 + 536
// (version 2). Session.RemoteAddr and Config.MaxSessionsPerAddr then go by the
// address in it; where it has none that is TCP's (UNKNOWN, LOCAL, UDP, Unix) by
// the proxy's own. From anybody else no header is looked for: it is garbage to the protocols.
//
// It concerns the listener's stream protocols only, not QUIC.
type ProxyProtocol struct {
	// Trusted are the networks of the proxies. On a Unix socket every peer is
	// trusted, and Trusted may be empty; elsewhere it must not be.
	Trusted []netip.Prefix
}

// Name implements Protocol. It is no session's transport.
func (ProxyProtocol) Name() string { return "proxy" }

// Validate reports a prefix that means nothing; Listen asks.
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

// admissionAddr is by which address an accepted connection is admitted: none
// where a proxy's header will tell.
func (l *Listener) admissionAddr(remote netip.AddrPort) (addr netip.AddrPort, header bool) {
	if l.proxy != nil && l.proxy.trusts(remote, l.name != "") {
		return netip.AddrPort{}, true
	}
	return remote, false
}

// decodeProxyHeader is the stage in which b is a PROXY header. On the loop.
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
	case c.refused: // its deadline runs already
	case c.stage == stageUnknown && l.sole() != nil:
		c.adopt(l.sole())
	default:
		c.startDeadline(deadlineSilence, c.core().engine.cfg.SniffTimeout)
	}
	return b[n:], true
}

// admitReal makes src the session's address, and asks whether there may be one
// more from there; the session is refused if not, and false returned if
// that happens without a word.
func admitReal(c *socketConn, src netip.AddrPort) bool {
	s, e := c.session, c.core().engine
	if e.admission.enterAddr(&e.cfg, src.Addr()) {
		s.remote = src
		return true
	}
	if len(s.listener.streams) < 2 || !e.admission.beginRefusal() {
		c.stopInput(inputDraining)
		c.close(errMaxPerAddr, true)
		return false
	}
	// From here on it is as if accepted had refused it.
	e.countRefused(errMaxPerAddr, src, s.listener)
	e.admission.endHandshake()
	e.release(s.remote.Addr())
	c.refused, s.ending = true, errMaxPerAddr
	c.startDeadline(deadlineRefusal, refusalTimeout)
	return true
}

func proxyError(reason error) error { return fmt.Errorf("%w: %w", ErrProxyHeader, reason) }
