package engine

import (
	"net/netip"
	"sync"
	"time"
)

// admission decides which connections become sessions, before memory is spent
// on them. The acceptor, transports and Dial consult it once a connection.
type admission struct {
	mu        sync.Mutex // guards the fields below
	perAddr   map[netip.Addr]int
	bucket    tokenBucket
	refusing  int // refused connections that exist only to send their protocol's refusal
	handshake int // sessions that are not open yet
}

// maxRefusing bounds how many refused connections are answered at a time; any
// more are closed without an answer.
const maxRefusing = 64

// admit counts a new session of l of a peer at addr, or returns the reason to refuse it.
func (e *Engine) admit(l *Listener, addr netip.Addr) error {
	if err := e.admitDialed(); err != nil {
		return err
	}
	err := errMaxOfListener
	if l.policy.sessions.enter() {
		if err = e.admission.enter(&e.cfg, addr); err == nil {
			return nil
		}
		l.policy.sessions.leave()
	}
	e.admitted.Add(-1)
	return err
}

// admitDialed is admit for a session that this side dials. The limits of addresses and of
// the accept rate do not apply: else the clients of an address could keep this side from
// dialing it. release undoes it without a listener.
func (e *Engine) admitDialed() error {
	if e.draining.Load() {
		return ErrShutdown
	}
	if e.memory.refusing.Load() {
		return errMemoryRefused
	}
	if n := e.admitted.Add(1); e.cfg.MaxSessions > 0 && n > int64(e.cfg.MaxSessions) {
		e.admitted.Add(-1)
		return errMaxSessions
	}
	return nil
}

// release undoes admit. l is nil if this side dialed.
func (e *Engine) release(l *Listener, addr netip.Addr) {
	if l != nil {
		l.policy.sessions.leave()
		e.admission.leave(&e.cfg, addr)
	}
	e.admitted.Add(-1)
}

// beginSession counts a session. Shutdown and Close wait for it until sessionGone.
// It reports false if Shutdown or Close has begun.
func (e *Engine) beginSession() bool {
	e.active.Add(1)
	memory.add(sessionMemory)
	if e.draining.Load() {
		e.sessionGone()
		return false
	}
	return true
}

// refuse undoes the admission of a connection that does not become a session. refusal
// is nil if it was admitted; l is nil if this side dialed.
func (e *Engine) refuse(refusal error, l *Listener, addr netip.Addr) {
	switch {
	case refusal != nil:
		e.admission.endRefusal()
		return
	case l != nil:
		e.admission.endHandshake()
	}
	e.release(l, addr)
}

func (a *admission) enter(cfg *Config, addr netip.Addr) error {
	if cfg.AcceptRate == 0 && cfg.MaxSessionsPerAddr == 0 {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if limit := cfg.MaxSessionsPerAddr; limit > 0 && addr.IsValid() && a.perAddr[addr] >= limit {
		return errMaxPerAddr
	}
	if cfg.AcceptRate > 0 && !a.bucket.take(time.Now(), 1, float64(cfg.AcceptRate)) {
		return errAcceptRate
	}
	if cfg.MaxSessionsPerAddr > 0 && addr.IsValid() {
		if a.perAddr == nil {
			a.perAddr = make(map[netip.Addr]int)
		}
		a.perAddr[addr]++
	}
	return nil
}

// enterAddr counts a session of addr that enter admitted without an address. It
// reports false if there are too many.
func (a *admission) enterAddr(cfg *Config, addr netip.Addr) bool {
	limit := cfg.MaxSessionsPerAddr
	if limit == 0 || !addr.IsValid() {
		return true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.perAddr[addr] >= limit {
		return false
	}
	if a.perAddr == nil {
		a.perAddr = make(map[netip.Addr]int)
	}
	a.perAddr[addr]++
	return true
}

func (a *admission) leave(cfg *Config, addr netip.Addr) {
	if cfg.MaxSessionsPerAddr == 0 || !addr.IsValid() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.perAddr[addr]--; a.perAddr[addr] <= 0 {
		delete(a.perAddr, addr)
	}
}

// beginHandshake counts a session that is not open yet. It reports false if there
// are too many.
func (a *admission) beginHandshake(limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limit > 0 && a.handshake >= limit {
		return false
	}
	a.handshake++
	return true
}

func (a *admission) endHandshake() {
	a.mu.Lock()
	a.handshake--
	a.mu.Unlock()
}

// beginRefusal counts a connection that gets a refusal in its protocol. It reports
// false if there are too many.
func (a *admission) beginRefusal() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.refusing >= maxRefusing {
		return false
	}
	a.refusing++
	return true
}

func (a *admission) endRefusal() {
	a.mu.Lock()
	a.refusing--
	a.mu.Unlock()
}
