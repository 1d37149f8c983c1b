package client

import (
	"context"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// Dial connects to the server at rawURL and does the transport's handshake:
//
//	tcp://host:port       packets over TCP
//	ws://host:port/path   a packet in each binary WebSocket message; port 80 if none is named
//	tls://host:port       packets over TLS
//	wss://host:port/path  as ws, over TLS; port 443 if none is named
//	quic://host:port      packets over QUIC
//	unix:///path          packets over a Unix socket; unix:@name for an abstract one
//
// The path of a ws or wss URL must be one of wsupgrade.Packets: a plain path has no
// requests. For a plain path use Engine.Dial with wsupgrade.New(wsupgrade.Config{Plain: []string{path}}).
//
// It blocks until the client is ready, ctx ends, or engine.DefaultHandshakeTimeout
// has passed. It may be called from any goroutine, but not from a callback of an
// engine's Handler. The caller must close the client, unless its session has ended
// by itself.
//
// If a server detects protocols by their first bytes, it opens a tcp session when
// the client has sent something, or after its SniffTimeout. It cannot send a
// message before that.
//
// Errors: ErrBadURL (also as an *UnsupportedSchemeError) before anything is dialed,
// otherwise those of Engine.Dial.
func Dial(ctx context.Context, rawURL string, opts ...Option) (*Client, error) {
	t, err := parseTarget(rawURL)
	if err != nil {
		return nil, err
	}
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	h := join()
	s, err := h.engine.Dial(ctx, t.addr, t.protocol(&o))
	if err != nil {
		if h.leave() {
			h.engine.Close()
		}
		return nil, err // the error already contains the operation and the address
	}
	c := h.client(s)
	c.handler = o.handler
	c.own()
	if c.handler != nil {
		c.inbox.read()
		go c.handle()
	}
	return c, nil
}

// protocol returns the engine's protocol for t.
func (t *target) protocol(o *options) engine.Protocol {
	switch t.scheme {
	case "ws":
		return wsupgrade.Path(t.path)
	case "tls":
		return engine.DialTLS(engine.Packets(), o.tls)
	case "wss":
		return engine.DialTLS(wsupgrade.Path(t.path), o.tls)
	case "quic":
		return quicbridge.New(quicbridge.Config{TLS: o.tls})
	default:
		return engine.Packets()
	}
}
