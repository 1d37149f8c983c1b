package client

import (
	"crypto/tls"

	"github.com/millrace/millrace/engine"
)

// Option is a setting of Dial.
type Option func(*options)

type options struct {
	tls     *tls.Config
	handler engine.Handler
}

// WithTLS sets the TLS configuration of URLs that encrypt: tls, wss and quic. The URL's
// scheme alone decides whether a connection is encrypted, so the others don't
// look at it. Nil, and no WithTLS, mean to verify the server's certificate for
// the URL's host with the system's roots. cfg must not be changed afterwards.
func WithTLS(cfg *tls.Config) Option { return func(o *options) { o.tls = cfg } }

// WithHandler hands what the peer sends to h instead of to Events, nil to
// Events again. OnOpen, OnMessage and OnClose run one after the other on a
// goroutine of the client's own, which ends after OnClose. So they may block,
// and may call Request on any client: only this client's next messages wait
// meanwhile, as they do for a slow reader of Events. Messages own their bytes
// and may be kept. A panic ends the session with an engine.PanicError.
func WithHandler(h engine.Handler) Option { return func(o *options) { o.handler = h } }
