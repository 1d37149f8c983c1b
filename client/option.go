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

// WithTLS sets the TLS configuration of URLs that encrypt: tls, wss and quic. Other
// URLs ignore it, because only the scheme decides whether a connection is
// encrypted. With nil, or without WithTLS, the server's certificate is verified for
// the URL's host with the system's roots. The caller must not change cfg
// afterwards.
func WithTLS(cfg *tls.Config) Option { return func(o *options) { o.tls = cfg } }

// WithHandler passes the peer's messages to h instead of to Events; a nil h selects
// Events. OnOpen, OnMessage and OnClose run one after the other on a goroutine of
// the client, which ends after OnClose. So they may block, and may call Request on
// any client. Only this client's next messages wait for them, as they do for a slow
// reader of Events. Messages own their bytes and may be kept. A panic ends the
// session with an engine.PanicError.
func WithHandler(h engine.Handler) Option { return func(o *options) { o.handler = h } }
