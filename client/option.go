package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/millrace/millrace/engine"
)

// ErrBadOption is wrapped by every error about an option of Dial: an invalid value,
// or an option that the URL's scheme does not have. Nothing was dialed then.
var ErrBadOption = errors.New("client: bad option")

// Option is a setting of Dial.
type Option func(*options)

type options struct {
	tls          *tls.Config
	handler      engine.Handler
	limits       Limits
	header       http.Header
	subprotocols []string
	plain        bool
	proxy        string
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

// WithHeader sends the headers of h with the handshake of a ws or wss URL: Origin,
// Cookie, Authorization and others, but not the handshake's own (see
// wsupgrade.DialConfig). The caller must not change h until Dial returns.
func WithHeader(h http.Header) Option { return func(o *options) { o.header = h } }

// WithSubprotocols offers WebSocket subprotocols to the server of a ws or wss URL,
// the preferred one first. Client.Subprotocol returns the one that it selected.
func WithSubprotocols(names ...string) Option { return func(o *options) { o.subprotocols = names } }

// WithPlainMessages makes the client of a ws or wss URL one of an ordinary WebSocket
// server. Every WebSocket message is one message: its bytes are the payload, and
// Message.Text is set for text messages. Send sends binary messages; send text by
// SendMessage with Message.Text. There are no requests: Request returns
// ErrNoRequests. Without this option each WebSocket message carries a packet.
func WithPlainMessages() Option { return func(o *options) { o.plain = true } }

// WithProxy connects through the HTTP proxy at rawURL, "http://host:port" or
// "http://user:password@host:port", by CONNECT (RFC 9110 section 9.3.6), for tcp,
// tls, ws and wss URLs. The default port is 80; an empty rawURL means no proxy. The
// proxy resolves the name of the server, and gets the password unencrypted.
// Session.RemoteAddr is then the proxy's. The variables of the environment
// (HTTP_PROXY) are not read.
func WithProxy(rawURL string) Option { return func(o *options) { o.proxy = rawURL } }

// WithLimits sets the client's limits.
func WithLimits(l Limits) Option { return func(o *options) { o.limits = l } }

// Defaults of Limits that are not the engine's.
const (
	DefaultMaxEventBytes = 1 << 20
	DefaultOutboxLimit   = 16 << 20
)

// Limits bound a client. The zero value of each field means its default. Clients
// with equal limits share an engine.
type Limits struct {
	// MaxMessageSize bounds a message's payload plus extension header, in bytes, in
	// both directions. Default 1 MiB; 1 byte to 1 GiB.
	MaxMessageSize int

	// OutboxLimit is how many bytes may wait to be written before Send fails with
	// engine.ErrSlowConsumer and the session ends. Default 16 MiB, or twice
	// MaxMessageSize if that is more.
	OutboxLimit int

	// MaxEventBytes is how many bytes of received messages may wait for Events,
	// Receive or the handler. Each message counts 128 bytes more than its payload
	// and extension header. Reading resumes at half of it. Default 1 MiB.
	MaxEventBytes int

	// HandshakeTimeout bounds Dial. Default 10 s; negative means that only Dial's
	// context does.
	HandshakeTimeout time.Duration

	// IdleTimeout ends a session with engine.ErrIdleTimeout if nothing has arrived
	// for this time. 0 means never.
	IdleTimeout time.Duration

	// PartialTimeout ends a session with engine.ErrPartialTimeout if the server has
	// begun a message and within this time neither completed it nor sent 16 KiB more
	// of it. Default 30 s; negative means never.
	PartialTimeout time.Duration

	// WriteTimeout ends a session with engine.ErrWriteTimeout if the server has
	// accepted none of the waiting bytes for this time. Default 60 s; negative means
	// never.
	WriteTimeout time.Duration

	// LingerTimeout bounds how long Close may take to write the queued bytes and to
	// read the server's end. Default 3 s; negative means not to wait.
	LingerTimeout time.Duration
}

// ringSize is the least that an engine takes, in bytes. Inline, the ring carries only
// the beginnings and ends of QUIC sessions.
const ringSize = 64 << 10

// config returns the configuration of the engine of all clients with these limits.
func (l *Limits) config(h engine.Handler) engine.Config {
	cfg := engine.Config{
		Handler:          h,
		Dispatch:         engine.Inline,
		Cores:            1,
		RingSize:         ringSize,
		MaxMessageSize:   l.MaxMessageSize,
		OutboxLimit:      l.OutboxLimit,
		HandshakeTimeout: l.HandshakeTimeout,
		IdleTimeout:      l.IdleTimeout,
		PartialTimeout:   l.PartialTimeout,
		WriteTimeout:     l.WriteTimeout,
		LingerTimeout:    l.LingerTimeout,
	}
	if cfg.OutboxLimit == 0 {
		cfg.OutboxLimit = max(DefaultOutboxLimit, 2*l.MaxMessageSize)
	}
	// It applies to accepted sessions only, and must not be above OutboxLimit.
	cfg.OutboxSoftMark = min(max(cfg.OutboxLimit, 1), engine.DefaultOutboxSoftMark)
	return cfg
}

// validate reports the first field that is out of its bounds.
func (l *Limits) validate() error {
	switch {
	case l.MaxEventBytes < 0:
		return fmt.Errorf("%w: Limits.MaxEventBytes %d is negative", ErrBadOption, l.MaxEventBytes)
	case l.OutboxLimit < 0:
		return fmt.Errorf("%w: Limits.OutboxLimit %d is negative", ErrBadOption, l.OutboxLimit)
	}
	cfg := l.config(engine.HandlerFuncs{})
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadOption, err)
	}
	return nil
}
