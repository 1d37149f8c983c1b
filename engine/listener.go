package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/reactor"
)

// Listener is an address that an engine serves.
type Listener struct {
	origin

	engine    *Engine
	addr      netip.AddrPort
	streams   []*streamProtocol
	tls       *TLSProtocol    // under the streams; nil if there is none
	fallback  *streamProtocol // for connections that stay silent; nil if none can be
	endpoints []Endpoint

	// Owned by the acceptor, once it is registered.
	conn    reactor.Conn
	backoff time.Duration // after the last failed accept

	closed atomic.Bool
}

// streamProtocol is a StreamProtocol on a listener, with its counters.
type streamProtocol struct {
	protocol StreamProtocol
	stats    *transportStats
	secure   *transportStats // over TLS; nil where there is none
}

const (
	minAcceptBackoff = 5 * time.Millisecond
	maxAcceptBackoff = time.Second
	acceptBatch      = 256         // connections accepted before other listeners have their turn
	refusalTimeout   = time.Second // for a refused peer to show its protocol
	listenTries      = 16          // ports tried for one that is free for TCP and UDP
)

// Listen binds addr ("host:port", where port 0 picks one, the same for TCP and
// UDP; or "unix:" and a path, or "unix:@" and an abstract name) for protocols,
// and returns when it can be connected to. A Unix socket file at which nobody
// answers is replaced; anything else at its path is an error and stays.
// Connections are served from Start or Serve on. With several stream protocols each new
// connection's first bytes tell which one it speaks, in the order of protocols: a
// catch-all such as Framed comes last, and a protocol that no connection could reach is
// an error. A failed Listen leaves nothing
// behind, so a program may try another address. If none succeeds, Start and Serve
// return the first error, so that a program with one listener may look only there.
func (e *Engine) Listen(addr string, protocols ...Protocol) (*Listener, error) {
	return e.listen(addr, nil, protocols)
}

// listen is Listen, and Adopt where there is a file.
func (e *Engine) listen(addr string, file *os.File, protocols []Protocol) (*Listener, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.make(); err != nil {
		return nil, err
	}
	if e.closing || e.draining.Load() {
		return nil, ErrClosed
	}
	l := &Listener{engine: e, conn: reactor.Conn{FD: -1}, origin: origin{inherited: file, done: make(chan struct{})}}
	transports, err := l.sort(addr, protocols)
	if err != nil {
		return nil, e.listenFailed(addr, err)
	}
	for try := 1; ; try++ {
		if err = l.bind(addr, transports); err == nil {
			break
		}
		_, port, _ := net.SplitHostPort(addr)
		if port != "0" || try == listenTries || !errors.Is(err, syscall.EADDRINUSE) {
			return nil, e.listenFailed(addr, err)
		}
	}
	l.inherited = nil
	e.listenErr = nil
	e.listeners = append(e.listeners, l)
	if l.conn.FD >= 0 {
		_ = e.acceptor.Trigger(registerListenerTask, l)
	}
	return l, nil
}

// sort tells stream protocols from transports.
func (l *Listener) sort(addr string, protocols []Protocol) ([]Transport, error) {
	var transports []Transport
	for _, p := range protocols {
		if v, ok := p.(interface{ Validate() error }); ok {
			if err := v.Validate(); err != nil {
				return nil, err
			}
		}
		switch p := p.(type) {
		case ProxyProtocol:
			l.proxy = &p
		case *TLSProtocol:
			l.tls = p
		case StreamProtocol:
			sp := &streamProtocol{protocol: p, stats: l.engine.stats.transport(transportName(p, addr))}
			l.streams = append(l.streams, sp)
			if _, ok := p.(packets); ok {
				l.fallback = sp
			}
		case Transport:
			transports = append(transports, p)
		default:
			return nil, fmt.Errorf("protocol %T is neither a StreamProtocol nor a Transport", p)
		}
	}
	if len(protocols) == 0 {
		return nil, errors.New("no protocol given")
	}
	if err := checkProtocols(protocols); err != nil {
		return nil, err
	}
	return transports, l.useTLS()
}

// bind opens the sockets, all on one port; what was opened is closed again on an error.
func (l *Listener) bind(addr string, transports []Transport) (err error) {
	defer func() {
		if err != nil {
			l.release()
		}
	}()
	if err := l.checkBind(addr, transports); err != nil {
		return err
	}
	if len(l.streams) > 0 {
		if err := l.openStream(addr, transports); err != nil {
			return err
		}
		addr = l.addr.String()
	}
	for _, t := range transports {
		ep, err := t.Listen(&Host{engine: l.engine, listener: l, name: t.Name()}, addr)
		if err != nil {
			return err
		}
		l.endpoints = append(l.endpoints, ep)
		addr = ep.Addr().String()
		if !l.addr.IsValid() {
			l.addr, _ = netip.ParseAddrPort(addr)
		}
	}
	return nil
}

// release closes what bind opened.
func (l *Listener) release() {
	for _, ep := range l.endpoints {
		ep.StopAccepting()
		_ = ep.Close()
	}
	l.endpoints = nil
	l.closeStream()
	l.addr = netip.AddrPort{}
}

// Addr is the bound address, the same for all protocols of the listener; the
// zero AddrPort for a Unix socket, which Path and String name.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// Close stops accepting. Sessions go on. A second call does nothing.
func (l *Listener) Close() {
	if !l.closed.CompareAndSwap(false, true) {
		return
	}
	for _, ep := range l.endpoints {
		ep.StopAccepting()
	}
	if len(l.streams) == 0 {
		l.setDone()
		return
	}
	_ = l.engine.acceptor.Trigger(closeListenerTask, l)
}

// stopAccepting closes every listener and admits no more sessions.
func (e *Engine) stopAccepting() {
	e.draining.Store(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.listeners {
		l.Close()
	}
}

// closeListeners gives the listeners' sockets back, when no session is left.
func (e *Engine) closeListeners() {
	for _, l := range e.listeners {
		l.closeEndpoints()
		if !e.started {
			_ = closeListenerTask(l)
		}
	}
}

// runAcceptor is the goroutine that accepts for all listeners: a loop of its
// own, so that no handler and no socket ever delays it.
func (e *Engine) runAcceptor() {
	defer e.running.Done()
	if err := e.acceptor.Run(); err != nil {
		e.cfg.Logger.Error("acceptor ended", "error", err)
	}
	for _, l := range e.listeners {
		_ = closeListenerTask(l)
	}
}

func registerListenerTask(arg any) error {
	l := arg.(*Listener)
	if l.conn.FD < 0 {
		return nil
	}
	l.conn.Handler = (*accepting)(l)
	if err := l.engine.acceptor.Register(&l.conn); err != nil {
		l.engine.cfg.Logger.Error("listener not registered", "addr", l.String(), "error", err)
	}
	return nil
}

func closeListenerTask(arg any) error {
	l := arg.(*Listener)
	l.closeStream()
	l.setDone()
	return nil
}

// accepting is a Listener as the acceptor sees it.
type accepting Listener

// OnEvent accepts what is waiting.
func (a *accepting) OnEvent(reactor.Event) {
	l := (*Listener)(a)
	for range acceptBatch {
		if l.conn.FD < 0 {
			return
		}
		fd, remote, err := reactor.Accept(l.conn.FD)
		if err != nil {
			l.acceptFailed(err)
			return
		}
		l.backoff = 0
		l.engine.accepted(l, fd, remote)
	}
	l.engine.acceptor.Again(a)
}

// acceptFailed decides how to go on. The listener is registered edge-triggered,
// so after a failure it must be asked again without an event.
func (l *Listener) acceptFailed(err error) {
	if err == syscall.EAGAIN {
		return
	}
	l.engine.countAcceptError(err)
	retry, busy := reactor.AcceptRetryable(err)
	switch {
	case !retry:
		l.engine.cfg.Logger.Error("accept failed", "addr", l.String(), "error", err)
		fallthrough
	case busy:
		if l.backoff == 0 {
			l.engine.cfg.Logger.Warn("accepting pauses", "addr", l.String(), "error", err)
		}
		l.backoff = min(max(2*l.backoff, minAcceptBackoff), maxAcceptBackoff)
		time.AfterFunc(l.backoff, func() { _ = l.engine.acceptor.Trigger(acceptAgainTask, l) })
	default:
		l.engine.acceptor.Again((*accepting)(l))
	}
}

func acceptAgainTask(arg any) error {
	(*accepting)(arg.(*Listener)).OnEvent(reactor.Readable)
	return nil
}

// accepted makes a session of an accepted descriptor and hands it to a core.
func (e *Engine) accepted(l *Listener, fd int, remote netip.AddrPort) {
	peer := remote
	remote, header := l.admissionAddr(remote)
	err := e.admit(remote.Addr())
	if err == nil && !e.admission.beginHandshake(e.cfg.MaxHandshakes) {
		e.release(remote.Addr())
		err = errMaxHandshakes
	}
	if err != nil {
		e.countRefused(err, peer, l)
		// Only a protocol with a handshake can be told why.
		if len(l.streams) < 2 || e.draining.Load() || !e.admission.beginRefusal() {
			reactor.Close(fd)
			return
		}
	}
	if !e.beginSession() {
		reactor.Close(fd)
		e.refuse(err, l, remote.Addr())
		return
	}
	s := e.newSession(fd, remote)
	s.listener, s.refusal, s.headerDue = l, err, header
	s.core.stats.accepted.Add(1)
	_ = s.core.loop.Trigger(attachTask, s)
}

// newSession returns a session of a socket, on the next core, not yet attached
// to its loop.
func (e *Engine) newSession(fd int, remote netip.AddrPort) *Session {
	s := &Session{core: e.nextCore(), remote: remote}
	s.throttle = newThrottle(&e.cfg)
	s.conn = reactor.Conn{FD: fd, Handler: (*socket)(s)}
	s.timer.Owner = s
	s.out.Init(&e.lim)
	return s
}

// attachTask takes a new session in, on its loop.
func attachTask(arg any) error {
	s := arg.(*Session)
	c := s.core
	if !c.slots.add(c.index, s) {
		s.unattached(errNoSlot)
		return nil
	}
	switch {
	case s.refusal != nil:
		s.startPhase(refusalTimeout)
	case s.headerDue:
		s.startPhase(c.engine.cfg.HandshakeTimeout)
	case s.listener.sole() != nil:
		s.adopt(s.listener.sole())
	default:
		s.startPhase(c.engine.cfg.SniffTimeout)
	}
	if err := c.loop.Register(&s.conn); err != nil {
		s.end(fmt.Errorf("%w: %w", ErrRefused, err), true)
	}
	if c.engine.draining.Load() {
		s.endAfterMessages(ErrShutdown) // Shutdown may have passed by already
	}
	return nil
}

// unattached ends a session that didn't get a slot.
func (s *Session) unattached(reason error) {
	s.destroyed = true
	reactor.Close(s.conn.FD)
	s.core.engine.countRefused(reason, s.remote, s.listener)
	s.core.engine.refuse(s.refusal, s.listener, s.remote.Addr())
	s.core.engine.sessionGone()
}

// refuse undoes what accepted, or Dial where l is nil, began for a connection
// that doesn't become a session.
func (e *Engine) refuse(refusal error, l *Listener, addr netip.Addr) {
	switch {
	case refusal != nil:
		e.admission.endRefusal()
		return
	case l != nil:
		e.admission.endHandshake()
	}
	e.release(addr)
}
