// Package wsupgrade carries messages over WebSocket (RFC 6455) on the engine's
// stream sockets: the HTTP upgrade, the frames and the closing handshake, on
// the accepting and on the dialing side. It offers and accepts no extensions. Only
// the dialing side offers subprotocols.
package wsupgrade

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/millrace/millrace/engine"
)

// Protocol is the WebSocket protocol with the paths that it serves. It is immutable
// and may serve any number of listeners and dials at once. Make it by New or Path.
// The zero Protocol has no path, so it refuses every request with HTTP 404 and
// can't dial.
type Protocol struct {
	config  Config
	routes  []route
	invalid error // the error of the Config
}

var _ engine.StreamProtocol = (*Protocol)(nil)

// route is a path with the format of its messages.
type route struct {
	path  string
	plain bool // a message is an application's bytes, not a packet
}

// Config configures a Protocol. At least one path is required. New copies it, but the
// slices must not be changed.
//
// A path starts with a slash, and is plain ASCII without '?', '#', '%' and spaces. It
// is compared byte by byte with a request's percent-decoded path. No path may be given
// twice.
type Config struct {
	// Packets are the paths on which every binary message is exactly one packet
	// (framing.Packet, docs/WIRE.md section 1). A text message there ends the session
	// with close code 1003, and a binary message that isn't one packet with 1007.
	Packets []string

	// Plain are the paths on which every WebSocket message is one OneWay Message with
	// ID 0, in both directions. Message.Text is set for text messages, which must be
	// valid UTF-8 in both directions, and not for binary messages. Session.Reply
	// answers in the kind of its message, Session.Send sends binary messages; send text
	// with Session.SendMessage and Message.Text, which sessions of other protocols
	// ignore.
	Plain []string

	// Origins are the origins of web pages that may connect, besides those of the
	// request's own host: "https://example.com", "https://*.example.com" for all its
	// subdomains, or "*" for every page. A request without an Origin header, which
	// comes from no browser, is always accepted. Others get HTTP 403. (RFC 6455 section
	// 10.2.)
	Origins []string

	// KeepURL and KeepHeaders select what RequestOf returns of a request after OnOpen:
	// the URL and the Host; and the header fields of these names. By default nothing is
	// kept, so that an idle session stays small.
	KeepURL     bool
	KeepHeaders []string
}

// New returns the protocol for Engine.Listen and Engine.Dial. A dialing session requests
// the first path, of Packets if there are any. If cfg is invalid, Listen and Dial return
// the error of Validate.
func New(cfg Config) *Protocol {
	p := &Protocol{config: cfg, invalid: cfg.Validate()}
	for _, path := range cfg.Packets {
		p.routes = append(p.routes, route{path: path})
	}
	for _, path := range cfg.Plain {
		p.routes = append(p.routes, route{path: path, plain: true})
	}
	return p
}

// Path is New for one path that carries packets.
func Path(path string) *Protocol { return New(Config{Packets: []string{path}}) }

// Validate returns an error that names the first invalid field, or nil.
func (c *Config) Validate() error {
	paths := slices.Concat(c.Packets, c.Plain)
	if len(paths) == 0 {
		return errors.New("wsupgrade: a Config needs a path")
	}
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("?#%", r) }
	for i, path := range paths {
		if !strings.HasPrefix(path, "/") || strings.ContainsFunc(path, bad) {
			return fmt.Errorf("wsupgrade: path %q must start with a slash and be plain ASCII without ?, # and %%", path)
		}
		if slices.Contains(paths[:i], path) {
			return fmt.Errorf("wsupgrade: path %q is given twice", path)
		}
	}
	for _, origin := range c.Origins {
		u, err := url.Parse(origin)
		if origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "") {
			return fmt.Errorf("wsupgrade: Config.Origins: %q is no origin such as https://example.com", origin)
		}
	}
	for _, name := range c.KeepHeaders {
		if name == "" || strings.ContainsFunc(name, notToken) {
			return fmt.Errorf("wsupgrade: Config.KeepHeaders: %q is no header name", name)
		}
	}
	return nil
}

// Validate returns the error of the Config. Listen calls it.
func (p *Protocol) Validate() error { return p.invalid }

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
