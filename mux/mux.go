package mux

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// DefaultMaxPending is how many requests may wait on one session at the same time.
const DefaultMaxPending = 65_536

// Config configures a Mux. The zero value means all defaults.
type Config struct {
	// MaxPending is how many requests may wait for their responses on one session
	// at the same time; more fail with ErrTooManyPending. 0 means
	// DefaultMaxPending. If it is negative, every request returns the error of
	// Validate.
	MaxPending int
}

// Validate reports the first field that is out of its bounds.
func (c *Config) Validate() error {
	if c.MaxPending < 0 {
		return fmt.Errorf("mux: Config.MaxPending %d is negative", c.MaxPending)
	}
	return nil
}

// Mux is the engine.Handler that completes requests: it takes the Responses out of
// each session's messages and passes everything else to the next handler. One Mux
// serves all sessions of an engine, accepted and dialed. The engine must call it
// directly, or through wrappers that forward every callback. The zero Mux is not
// usable; New makes one.
//
// A Response without a waiting request (it came too late, or answers none) is
// dropped and counted.
type Mux struct {
	next    engine.Handler // read only
	config  Config         // read only
	invalid error          // the error of Config.Validate; read only

	creating sync.Mutex // held while a session gets its table
	dropped  atomic.Uint64
}

var _ engine.Handler = (*Mux)(nil)

// New returns a Mux that forwards to next. With a nil next, other messages are
// ignored.
func New(next engine.Handler, cfg Config) *Mux {
	if next == nil {
		next = engine.HandlerFuncs{}
	}
	x := &Mux{next: next, config: cfg, invalid: cfg.Validate()}
	if cfg.MaxPending == 0 {
		x.config.MaxPending = DefaultMaxPending
	}
	return x
}

// Dropped returns how many Responses were dropped because no request waited for
// them. It may be called from any goroutine.
func (x *Mux) Dropped() uint64 { return x.dropped.Load() }

// OnOpen implements engine.Handler. A session gets its table with its first
// request, so sessions without requests cost nothing.
func (x *Mux) OnOpen(s *engine.Session) { x.next.OnOpen(s) }

// OnMessage implements engine.Handler.
func (x *Mux) OnMessage(s *engine.Session, m *framing.Message) {
	if m.Type != framing.Response {
		x.next.OnMessage(s, m)
		return
	}
	t := x.lookup(s)
	if t == nil {
		x.dropped.Add(1)
		return
	}
	c := t.take(m.ID)
	if c == nil {
		x.dropped.Add(1)
		return
	}
	c.done <- answer{m: m.Clone()}
}

// OnClose implements engine.Handler: it fails the session's pending requests
// with reason, then calls the next handler.
//
// If a request makes the table at the same time, lookup may not find it. That is
// harmless: the request's SendMessage fails with the reason.
func (x *Mux) OnClose(s *engine.Session, reason error) {
	if t := x.lookup(s); t != nil {
		t.close(reason)
	}
	x.next.OnClose(s, reason)
}

// tableKey is the key of this Mux's table among a session's values.
type tableKey struct{ x *Mux }

// lookup returns the session's table, or nil before its first request.
func (x *Mux) lookup(s *engine.Session) *table {
	t, _ := s.Value(tableKey{x}).(*table)
	return t
}

// table returns the session's table, and makes it at the first request.
func (x *Mux) table(s *engine.Session) *table {
	if t := x.lookup(s); t != nil {
		return t
	}
	x.creating.Lock()
	defer x.creating.Unlock()
	if t := x.lookup(s); t != nil {
		return t
	}
	t := &table{}
	s.SetValue(tableKey{x}, t)
	return t
}
