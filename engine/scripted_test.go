package engine_test

import (
	"context"
	"net"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// scripted is a third-party stream protocol: packets, except for the functions that a test
// has set.
type scripted struct {
	match   func(first []byte) engine.Match
	accept  func(c *engine.Control) engine.Codec
	connect func(conn net.Conn) (engine.Codec, []byte, error)
	codec   scriptedCodec // copied for each session
}

func (*scripted) Name() string { return "scripted" }

func (p *scripted) Match(first []byte) engine.Match {
	if p.match != nil {
		return p.match(first)
	}
	return engine.MatchYes
}

func (p *scripted) Accept(ctl *engine.Control) engine.Codec {
	if p.accept != nil {
		return p.accept(ctl)
	}
	return p.newCodec()
}

func (p *scripted) Connect(_ context.Context, conn net.Conn, _ string, _ engine.Limits) (engine.Codec, []byte, error) {
	if p.connect != nil {
		return p.connect(conn)
	}
	return p.newCodec(), nil, nil
}

func (p *scripted) newCodec() engine.Codec {
	c := p.codec
	if c.Codec == nil {
		c.Codec = engine.Packets().Accept(nil)
	}
	return &c
}

// decodeFunc is Codec.Decode with the codec that it replaces.
type decodeFunc func(next engine.Codec, c *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error)

// scriptedCodec is a codec of scripted.
type scriptedCodec struct {
	engine.Codec

	// greeting takes part of b before messages flow, and returns 0 for more bytes.
	// It has the session opened, or not.
	greeting func(c *engine.Control, b []byte) (n int, err error)
	decode   decodeFunc
	append   func(dst []byte, m *framing.Message) ([]byte, error)
	goodbye  func(dst []byte, reason error) []byte
	needs    func() bool
	greeted  bool
}

func (c *scriptedCodec) NeedsHandshake() bool {
	if c.needs != nil {
		return c.needs()
	}
	return c.greeting != nil
}

func (c *scriptedCodec) Decode(ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
	if c.greeting != nil && !c.greeted {
		n, err := c.greeting(ctl, b)
		c.greeted = n > 0
		return n, false, err
	}
	if c.decode != nil {
		return c.decode(c.Codec, ctl, b, seen, m)
	}
	return c.Codec.Decode(ctl, b, seen, m)
}

func (c *scriptedCodec) Append(dst []byte, m *framing.Message) ([]byte, error) {
	if c.append != nil {
		return c.append(dst, m)
	}
	return c.Codec.Append(dst, m)
}

func (c *scriptedCodec) Goodbye(dst []byte, reason error) []byte {
	if c.goodbye != nil {
		return c.goodbye(dst, reason)
	}
	return c.Codec.Goodbye(dst, reason)
}

// greets opens the session when want has come.
func greets(want string, then func(*engine.Control)) func(*engine.Control, []byte) (int, error) {
	return func(ctl *engine.Control, b []byte) (int, error) {
		if len(b) < len(want) {
			return 0, nil
		}
		then(ctl)
		ctl.Establish()
		return len(want), nil
	}
}
