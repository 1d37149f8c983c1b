package engine

import (
	"fmt"
	"sync/atomic"
	"time"
)

// ListenConfig configures one listener. Only Addr is required. Zero means Config's value in
// every field that Config has, too; a negative duration, rate or number means none.
type ListenConfig struct {
	// Addr is the address to bind, as for Listen.
	Addr string

	// Handler handles the listener's sessions. Nil means Config.Handler.
	Handler Handler

	// Authorize decides about each session of the listener before it opens, after
	// Config.Authorize has admitted it. Nil admits all.
	Authorize Authorizer

	// MaxSessions bounds the sessions of the listener, on all its protocols together. A
	// connection above it is refused. 0 means no bound but Config.MaxSessions.
	MaxSessions int

	// MaxSessionsOf bounds the sessions of the listener by their Session.Transport, such
	// as "ws" or "quic". A transport that is not in it has no bound of its own.
	MaxSessionsOf map[string]int

	// MaxMessageSize bounds a message in bytes. It is at most Config.MaxMessageSize.
	MaxMessageSize int

	// HandshakeTimeout and IdleTimeout are those of Config, for the listener's sessions.
	HandshakeTimeout time.Duration
	IdleTimeout      time.Duration

	// MessageRate and ByteRate are those of Config, for the listener's sessions.
	MessageRate int
	ByteRate    int
}

// policy is what a ListenConfig determines for the sessions of its listener.
type policy struct {
	handler   Handler
	authorize []Authorizer
	limits    Limits
	sessions  sessionCount
	protocols []*protocolCount
}

// sessionCount counts sessions against a bound.
type sessionCount struct {
	n   atomic.Int64
	max int64 // 0 means none, and nothing is counted
}

// protocolCount counts the sessions of one transport name.
type protocolCount struct {
	sessionCount
	name string
}

// enter counts a session, and reports false if there are too many.
func (c *sessionCount) enter() bool {
	if c.max > 0 && c.n.Add(1) > c.max {
		c.n.Add(-1)
		return false
	}
	return true
}

// leave undoes enter.
func (c *sessionCount) leave() {
	if c.max > 0 {
		c.n.Add(-1)
	}
}

// set sets the policy of a listener of e.
func (p *policy) set(e *Engine, cfg *ListenConfig) error {
	p.handler, p.limits = e.cfg.Handler, e.lim
	if cfg.Handler != nil {
		p.handler = cfg.Handler
	}
	for _, a := range [...]Authorizer{e.cfg.Authorize, cfg.Authorize} {
		if a != nil {
			p.authorize = append(p.authorize, a)
		}
	}
	if cfg.MaxMessageSize < 0 || cfg.MaxMessageSize > e.cfg.MaxMessageSize {
		return fmt.Errorf("ListenConfig.MaxMessageSize %d is outside 1 to Config.MaxMessageSize %d",
			cfg.MaxMessageSize, e.cfg.MaxMessageSize)
	}
	override(&p.limits.MaxMessageSize, cfg.MaxMessageSize)
	override(&p.limits.HandshakeTimeout, cfg.HandshakeTimeout)
	override(&p.limits.IdleTimeout, cfg.IdleTimeout)
	override(&p.limits.messageRate, cfg.MessageRate)
	override(&p.limits.byteRate, cfg.ByteRate)
	p.sessions.max = int64(max(cfg.MaxSessions, 0))
	for name, most := range cfg.MaxSessionsOf {
		if most <= 0 {
			return fmt.Errorf("ListenConfig.MaxSessionsOf[%q] is %d, must be above 0", name, most)
		}
		c := &protocolCount{name: name}
		c.max = int64(most)
		p.protocols = append(p.protocols, c)
	}
	return nil
}

// override sets field to v unless v is 0. A negative v means 0.
func override[T int | time.Duration](field *T, v T) {
	if v != 0 {
		*field = max(v, 0)
	}
}

// limitsOf returns the limits of the sessions of l; l is nil if this side dialed.
func (e *Engine) limitsOf(l *Listener) *Limits {
	if l == nil {
		return &e.lim
	}
	return &l.policy.limits
}

// protocol returns the counter of a transport name; nil if it has no bound of its own.
func (p *policy) protocol(name string) *protocolCount {
	for _, c := range p.protocols {
		if c.name == name {
			return c
		}
	}
	return nil
}

// enterProtocol counts a session of a transport name, and reports false if there are too
// many.
func (p *policy) enterProtocol(name string) bool {
	c := p.protocol(name)
	return c == nil || c.enter()
}

// leaveProtocol undoes enterProtocol.
func (p *policy) leaveProtocol(name string) {
	if c := p.protocol(name); c != nil {
		c.leave()
	}
}
