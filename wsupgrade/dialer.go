package wsupgrade

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// DialConfig is the opening handshake of a Dialer (RFC 6455 section 4.1). The zero
// value requests "/" with packets, without other headers and subprotocols.
type DialConfig struct {
	// RequestURI is the path and the query, percent-encoded as url.URL.RequestURI
	// returns them: "/chat?room=1". It is ASCII and starts with a slash. Default "/".
	RequestURI string

	// Plain selects the format of the messages: that of Config.Plain, not that
	// of Config.Packets.
	Plain bool

	// Header holds further headers of the request, such as Origin, Cookie and
	// Authorization. Values are sent as they are. The headers of the handshake
	// (Host, Connection, Upgrade and Sec-WebSocket-…), and those of a body, are
	// refused.
	Header http.Header

	// Subprotocols are the subprotocols that the session can speak, the preferred
	// one first (RFC 6455 section 1.9). Default none. A server that selects none of
	// them is accepted; one that selects another one is not.
	Subprotocols []string

	// Accepted is called with the subprotocol that the server selected, "" if none,
	// when the server has accepted the handshake. It runs on the goroutine of Dial,
	// before the session opens, and may block until Dial's context ends. Nil means
	// no call.
	Accepted func(subprotocol string)
}

// Validate reports the first field that is out of its bounds.
func (c *DialConfig) Validate() error {
	if _, err := c.target(""); err != nil {
		return err
	}
	for name, values := range c.Header {
		switch {
		case name == "" || strings.ContainsFunc(name, notToken):
			return fmt.Errorf("wsupgrade: DialConfig.Header has the name %q, which is no token", name)
		case reserved(http.CanonicalHeaderKey(name)):
			return fmt.Errorf("wsupgrade: DialConfig.Header has %s, which belongs to the handshake", name)
		case slices.ContainsFunc(values, func(v string) bool { return !isText([]byte(v)) }):
			return fmt.Errorf("wsupgrade: DialConfig.Header has a control character in %s", name)
		}
	}
	for i, s := range c.Subprotocols {
		switch {
		case s == "" || strings.ContainsFunc(s, notToken):
			return fmt.Errorf("wsupgrade: DialConfig.Subprotocols has %q, which is no token", s)
		case slices.Contains(c.Subprotocols[:i], s):
			// RFC 6455 section 4.1: "The elements [...] MUST all be unique strings".
			return fmt.Errorf("wsupgrade: DialConfig.Subprotocols has %q twice", s)
		}
	}
	return nil
}

// reserved reports whether a header may not be in DialConfig.Header.
func reserved(name string) bool {
	switch name {
	case "Host", "Connection", "Upgrade", "Content-Length", "Transfer-Encoding", "Trailer":
		return true
	}
	return strings.HasPrefix(name, "Sec-Websocket-")
}

// target returns the URL to request from host.
func (c *DialConfig) target(host string) (*url.URL, error) {
	if c.RequestURI == "" {
		return &url.URL{Scheme: "ws", Host: host, Path: "/"}, nil
	}
	bad := func(c rune) bool { return c <= ' ' || c > '~' || c == '#' }
	u, err := url.ParseRequestURI(c.RequestURI)
	if err != nil || c.RequestURI[0] != '/' || strings.ContainsFunc(c.RequestURI, bad) {
		return nil, fmt.Errorf("wsupgrade: DialConfig.RequestURI %q is not a path and a query, percent-encoded", c.RequestURI)
	}
	u.Scheme, u.Host = "ws", host
	return u, nil
}

// Dialer is the dialing side of WebSocket, for Engine.Dial. It is immutable and may
// serve any number of dials at once. Make it by NewDialer; the zero Dialer is that
// of a zero DialConfig. A Protocol can dial as well, without the settings of
// DialConfig.
type Dialer struct{ cfg DialConfig }

var _ engine.StreamProtocol = (*Dialer)(nil)

// NewDialer returns a Dialer of cfg, whose maps and slices must not change
// afterwards. If cfg is invalid, Connect returns the error of Validate, before it
// writes.
func NewDialer(cfg DialConfig) *Dialer { return &Dialer{cfg} }

// Name implements engine.Protocol. It is "ws".
func (d *Dialer) Name() string { return "ws" }

// Validate makes Listen refuse it.
func (d *Dialer) Validate() error {
	return errors.New("wsupgrade: a Dialer is for Dial; Listen takes a Protocol")
}

// Match implements engine.StreamProtocol; it is never called.
func (d *Dialer) Match([]byte) engine.Match { return engine.MatchNo }

// Accept implements engine.StreamProtocol; it is never called.
func (d *Dialer) Accept(c *engine.Control) engine.Codec { return new(Protocol).Accept(c) }

// Connect implements engine.StreamProtocol. It is Protocol.Connect for the
// handshake of DialConfig.
func (d *Dialer) Connect(ctx context.Context, conn net.Conn, addr string, limits engine.Limits) (
	codec engine.Codec, rest []byte, err error) {
	u, err := d.cfg.target(hostOf(addr))
	if err == nil {
		err = d.cfg.Validate()
	}
	if err != nil {
		return nil, nil, err
	}
	handshake := ws.Dialer{Protocols: d.cfg.Subprotocols}
	if len(d.cfg.Header) > 0 {
		var lines strings.Builder
		_ = d.cfg.Header.Write(&lines) // a Builder never fails
		handshake.Header = ws.HandshakeHeaderString(lines.String())
	}
	rest, subprotocol, err := upgrade(ctx, conn, handshake, u)
	if err != nil {
		return nil, nil, err
	}
	if d.cfg.Accepted != nil {
		d.cfg.Accepted(subprotocol)
	}
	return newClientCodec(nil, route{plain: d.cfg.Plain}, &limits), rest, nil
}
