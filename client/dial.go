package client

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// Dial connects to the server at rawURL and does the transport's handshake:
//
//	tcp://host:port             packets over TCP
//	ws://host:port/path?query   a packet in each binary WebSocket message; port 80 if none is named
//	tls://host:port             packets over TLS
//	wss://host:port/path?query  as ws, over TLS; port 443 if none is named
//	quic://host:port            packets over QUIC
//	unix:///path                packets over a Unix socket; unix:@name for an abstract one
//
// Over ws and wss, WithPlainMessages selects plain WebSocket messages instead of
// packets.
//
// It blocks until the client is ready, ctx ends, or Limits.HandshakeTimeout has
// passed. It may be called from any goroutine, but not from a callback of an
// engine's Handler. The caller must close the client, unless its session has ended
// by itself.
//
// If a server detects protocols by their first bytes, it opens a tcp session when
// the client has sent something, or after its SniffTimeout. It cannot send a
// message before that.
//
// Errors: ErrBadURL (also as an *UnsupportedSchemeError) and ErrBadOption before
// anything is dialed, a *ProxyError, and those of Engine.Dial.
func Dial(ctx context.Context, rawURL string, opts ...Option) (*Client, error) {
	t, err := parseTarget(rawURL)
	if err != nil {
		return nil, err
	}
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	var subprotocol string
	addr, p, err := o.protocol(&t, func(s string) { subprotocol = s })
	if err != nil {
		return nil, err
	}
	h := join(o.limits)
	s, err := h.engine.Dial(ctx, addr, p)
	if err != nil {
		if h.leave() {
			h.engine.Close()
		}
		return nil, err // the error already contains the operation and the address
	}
	c := h.client(s)
	c.handler, c.subprotocol, c.plain = o.handler, subprotocol, o.plain
	c.own()
	if c.handler != nil {
		c.inbox.read()
		go c.handle()
	}
	return c, nil
}

// protocol returns the engine's protocol for t and the address to connect to: t's or
// the proxy's. It refuses options that are invalid or would be ignored. selected is
// called with the subprotocol that a WebSocket server has selected.
func (o *options) protocol(t *target, selected func(string)) (addr string, p engine.Protocol, err error) {
	if err := o.limits.validate(); err != nil {
		return "", nil, err
	}
	stream := engine.Packets()
	switch {
	case t.webSocket():
		cfg := wsupgrade.DialConfig{RequestURI: t.uri, Plain: o.plain, Header: o.header, Subprotocols: o.subprotocols, Accepted: selected}
		if err := cfg.Validate(); err != nil {
			return "", nil, fmt.Errorf("%w: %w", ErrBadOption, err)
		}
		stream = wsupgrade.NewDialer(cfg)
	case len(o.header) > 0 || len(o.subprotocols) > 0 || o.plain:
		return "", nil, fmt.Errorf("%w: WithHeader, WithSubprotocols and WithPlainMessages are for ws and wss, not %s", ErrBadOption, t.scheme)
	}
	switch t.scheme {
	case "tls", "wss":
		stream = engine.DialTLS(stream, o.tls)
	case "quic", "unix":
		if o.proxy != "" {
			return "", nil, fmt.Errorf("%w: WithProxy is for tcp, tls, ws and wss, not %s", ErrBadOption, t.scheme)
		}
	}
	switch {
	case o.proxy != "":
		return parseProxy(o.proxy, t.addr, stream)
	case t.scheme == "quic":
		return t.addr, quicbridge.New(quicbridge.Config{TLS: o.tls}), nil
	}
	return t.addr, stream, nil
}
