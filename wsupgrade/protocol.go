// Package wsupgrade carries messages over WebSocket (RFC 6455) on the engine's
// stream sockets: the HTTP upgrade, the frames and the closing handshake, on
// the accepting and on the dialing side. It offers and accepts neither
// extensions nor subprotocols.
package wsupgrade

import (
	"fmt"
	"strings"

	"github.com/millrace/millrace/engine"
)

// Protocol is the WebSocket protocol with the paths that it serves. It is immutable
// and may serve any number of listeners and dials at once. Make it by Path or New.
// The zero Protocol has no path, so it refuses every request with HTTP 404 and
// can't dial.
type Protocol struct {
	routes []route
}

var _ engine.StreamProtocol = (*Protocol)(nil)

// route is a path with the format of its messages.
type route struct {
	path  string
	plain bool // a message is an application's bytes, not a packet
}

// Option is a setting of a Protocol.
type Option func(*Protocol)

// Packets adds a path on which every binary message is exactly one packet
// (framing.Packet, docs/WIRE.md section 1). A text message there ends the
// session with close code 1003, and a binary message that isn't one packet with
// 1007.
func Packets(path string) Option {
	return func(p *Protocol) { p.add(route{path: path}) }
}

// Plain adds a path on which every WebSocket message is one OneWay Message with ID
// 0, in both directions. Message.Text is set for text messages, which must be valid
// UTF-8 in both directions, and not for binary messages. Session.Send sends binary
// messages; send text with Session.SendMessage and Message.Text, which sessions of other
// protocols ignore.
func Plain(path string) Option {
	return func(p *Protocol) { p.add(route{path: path, plain: true}) }
}

// Path is New with Packets(path) as its first option.
func Path(path string, opts ...Option) *Protocol {
	p := new(Protocol)
	Packets(path)(p)
	return p.apply(opts)
}

// New returns a protocol that serves the paths of opts; there must be at least one.
// A dialing session requests the first of them. Paths are compared byte by byte
// with a request's percent-decoded path. New panics, as http.Handle does, if it is
// given no path, a path twice, or a path that does not start with a slash, contains
// '?', '#', '%', a space or a control character, or isn't ASCII.
func New(opts ...Option) *Protocol {
	return new(Protocol).apply(opts)
}

func (p *Protocol) apply(opts []Option) *Protocol {
	for _, opt := range opts {
		opt(p)
	}
	if len(p.routes) == 0 {
		panic("wsupgrade: a Protocol needs a path")
	}
	return p
}

func (p *Protocol) add(r route) {
	bad := func(c rune) bool { return c <= ' ' || c > '~' || strings.ContainsRune("?#%", c) }
	if !strings.HasPrefix(r.path, "/") || strings.ContainsFunc(r.path, bad) {
		panic(fmt.Sprintf("wsupgrade: path %q must start with a slash and be plain ASCII without ?, # and %%", r.path))
	}
	if _, ok := p.find(r.path); ok {
		panic(fmt.Sprintf("wsupgrade: path %q is given twice", r.path))
	}
	p.routes = append(p.routes, r)
}

// find returns the route of a decoded request path.
func (p *Protocol) find(path string) (route, bool) {
	for _, r := range p.routes {
		if r.path == path {
			return r, true
		}
	}
	return route{}, false
}

// Name implements engine.Protocol. It is "ws".
func (p *Protocol) Name() string { return "ws" }

// requestStart is how every opening handshake begins.
//
// RFC 6455 section 4.1: "The method of the request MUST be GET".
const requestStart = "GET "

// Match implements engine.StreamProtocol: it matches a connection that starts with
// "GET ". It does so even without an upgrade request, so that a plain HTTP client
// gets an HTTP error.
func (p *Protocol) Match(first []byte) engine.Match {
	n := min(len(first), len(requestStart))
	switch {
	case string(first[:n]) != requestStart[:n]:
		return engine.MatchNo
	case n < len(requestStart):
		return engine.MatchMore
	}
	return engine.MatchYes
}

// Accept implements engine.StreamProtocol.
func (p *Protocol) Accept(c *engine.Control) engine.Codec {
	return newServerCodec(p, c.Limits())
}
