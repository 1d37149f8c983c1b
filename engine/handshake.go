package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
)

// Authorizer decides whether a session may open. A nil error admits it; any other one
// refuses it, in the way of its protocol: see Refusal. It runs on a goroutine of its own
// and may block, while the engine goes on; the session counts against
// Config.MaxHandshakes until the Authorizer has returned. ctx ends when the connection
// does, and after Config.HandshakeTimeout. h is valid until the Authorizer returns.
type Authorizer func(ctx context.Context, h *Handshake) error

// AuthorizeAll returns an Authorizer that calls all of them in their order, until one
// refuses.
func AuthorizeAll(all ...Authorizer) Authorizer {
	all = slices.Clone(all)
	return func(ctx context.Context, h *Handshake) error {
		for _, a := range all {
			if err := a(ctx, h); err != nil {
				return err
			}
		}
		return nil
	}
}

// AllowNetworks returns an Authorizer that admits the peers of these networks only. A peer
// without an IP address, on a Unix socket, is refused.
func AllowNetworks(networks ...netip.Prefix) Authorizer {
	networks = slices.Clone(networks)
	return func(_ context.Context, h *Handshake) error {
		addr := h.RemoteAddr.Addr().Unmap().WithZone("")
		if slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(addr) }) {
			return nil
		}
		return &Refusal{Status: http.StatusForbidden, Reason: "address not allowed"}
	}
}

// Handshake describes a connection whose session is about to open.
type Handshake struct {
	RemoteAddr netip.AddrPort       // the peer's address; zero if it has none
	LocalAddr  netip.AddrPort       // this side's address; zero if it is unknown
	Transport  string               // as Session.Transport
	TLS        *tls.ConnectionState // nil without TLS
	Listener   *Listener

	session *Session
	conn    *socketConn     // nil for a Transport's
	done    <-chan struct{} // closed when the session ends, or its HandshakeTimeout
}

// newHandshake describes the connection of s, which was accepted.
func newHandshake(s *Session) *Handshake {
	return &Handshake{
		RemoteAddr: s.remote, LocalAddr: s.LocalAddr(), Transport: s.Transport(), TLS: s.TLS(), Listener: s.listener, session: s,
	}
}

// authorize calls the Authorizers of the listener.
func (h *Handshake) authorize(ctx context.Context) error {
	h.done = ctx.Done()
	if err := AuthorizeAll(h.Listener.policy.authorize...)(ctx, h); err != nil {
		return refusalOf(err)
	}
	return nil
}

// SetValue attaches v to the session, as Session.SetValue.
func (h *Handshake) SetValue(key, v any) { h.session.SetValue(key, v) }

// Value returns the value that SetValue, or the protocol, has stored under key, or nil.
func (h *Handshake) Value(key any) any { return h.session.Value(key) }

// First waits for a message from the peer and returns it; the caller owns it. So a protocol
// without a handshake, such as packets, can carry a token in its first message. OnMessage
// does not get the message. A second call waits for a second message. It fails with
// errors.ErrUnsupported if the protocol has a handshake of its own (WebSocket) or is a
// Transport (QUIC), with ctx's error, and with ErrClosed if the session ends.
func (h *Handshake) First(ctx context.Context) (*Message, error) {
	c := h.conn
	if c == nil {
		return nil, fmt.Errorf("engine: the first message of %s: %w", h.Transport, errors.ErrUnsupported)
	}
	if hs, ok := c.codec.(Handshaker); ok && hs.NeedsHandshake() {
		return nil, fmt.Errorf("engine: the first message of %s: %w", h.Transport, errors.ErrUnsupported)
	}
	first := make(chan *Message, 1)
	if err := c.core().loop.Trigger(awaitFirstTask, &awaitedFirst{c, first}); err != nil {
		return nil, ErrClosed
	}
	select {
	case m := <-first:
		return m, nil
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-h.done:
		return nil, ErrClosed
	}
}

// A Refusal is the error by which an Authorizer tells the peer why it is refused. Over
// WebSocket the peer gets an HTTP response with Status and Reason; over QUIC a close code
// with Reason; packets have no way to tell. Any other error of an Authorizer becomes a
// Refusal with status 403 and no reason, so that internal details stay here. It is also
// ErrUnauthorized and ErrRefused.
type Refusal struct {
	Status int    // of HTTP, 400 to 599; 0 means 403
	Reason string // for the peer; at most 123 bytes are sent
	Err    error  // the cause, for the log of this side; may be nil
}

func (r *Refusal) Error() string {
	s := ErrUnauthorized.Error()
	if r.Reason != "" {
		s += ": " + r.Reason
	}
	if r.Err != nil {
		s += ": " + r.Err.Error()
	}
	return s
}

// Unwrap makes errors.Is find ErrUnauthorized, and the cause.
func (r *Refusal) Unwrap() []error {
	if r.Err == nil {
		return []error{ErrUnauthorized}
	}
	return []error{ErrUnauthorized, r.Err}
}

// refusalOf returns the reason to end a session for an Authorizer's error.
func refusalOf(err error) error {
	var r *Refusal
	var p *PanicError
	switch {
	case errors.As(err, &p):
		return err
	case errors.As(err, &r):
		if r.Status < 400 || r.Status > 599 {
			r = &Refusal{Status: http.StatusForbidden, Reason: r.Reason, Err: r.Err}
		}
		return r
	}
	return &Refusal{Status: http.StatusForbidden, Err: err}
}
