package engine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/reactor"
)

// Listener is an address that an engine serves.
type Listener struct {
	origin

	engine    *Engine
	policy    policy
	addr      netip.AddrPort
	streams   []*streamProtocol
	tls       *TLSProtocol    // under the streams; nil if there is none
	fallback  *streamProtocol // for connections that stay silent; nil if there is none
	endpoints []Endpoint

	// Owned by the acceptor, once it is registered.
	conn    reactor.Conn
	backoff time.Duration // after the last failed accept
	pausing bool          // a timer will accept again

	closed atomic.Bool
}

// origin is the source of a listener's stream socket, and the state to close it.
type origin struct {
	name      string         // for a Unix socket: "unix:" and its name
	inherited *os.File       // to adopt instead of binding; nil after Adopt
	proxy     *ProxyProtocol // nil unless trusted connections begin with its header
	done      chan struct{}  // closed when no more connections are accepted
	doneOnce  sync.Once

	mu       sync.Mutex // guards file, and closing the descriptor
	file     socketFile
	released sync.Once // closes the transports' sockets
}

// streamProtocol is a StreamProtocol on a listener, with its counters.
type streamProtocol struct {
	protocol StreamProtocol
	stats    *transportStats
	secure   *transportStats // over TLS; nil without TLS
}

const (
	minAcceptBackoff = 5 * time.Millisecond
	maxAcceptBackoff = time.Second
	acceptBatch      = 256         // connections accepted before other listeners are served
	refusalTimeout   = time.Second // for a refused peer to show its protocol
	listenTries      = 16          // ports tried until one is free for TCP and UDP
)

// Listen binds addr for protocols, and returns when clients can connect. addr is
// "host:port", where port 0 picks a port, the same for TCP and UDP; or "unix:" and a
// path, or "unix:@" and an abstract name. A Unix socket file without a listener is
// replaced; any other file at its path is an error and stays. Connections are served
// once Start or Serve has been called.
//
// With several stream protocols the first bytes of each connection select one, in the
// order of protocols: a catch-all such as Framed comes last, and a protocol that no
// connection could reach is an error.
//
// A failed Listen leaves no socket open, so a program may try another address. If none
// succeeds, Start and Serve return the first error, so a program with one listener may
// check only theirs. Listen may block (on a Unix socket up to 2 s): do not call it from
// a callback.
func (e *Engine) Listen(addr string, protocols ...Protocol) (*Listener, error) {
	return e.ListenWith(ListenConfig{Addr: addr}, protocols...)
}

// ListenAndServe is Listen and Serve: it serves protocols at addr until ctx ends.
func (e *Engine) ListenAndServe(ctx context.Context, addr string, protocols ...Protocol) error {
	if _, err := e.Listen(addr, protocols...); err != nil {
		_ = e.Close()
		return err
	}
	return e.Serve(ctx)
}

// ListenWith is Listen with a handler, an Authorizer and limits for the listener.
func (e *Engine) ListenWith(cfg ListenConfig, protocols ...Protocol) (*Listener, error) {
	return e.listen(&cfg, nil, protocols)
}

// listen is ListenWith, or Adopt if file is not nil.
func (e *Engine) listen(cfg *ListenConfig, file *os.File, protocols []Protocol) (*Listener, error) {
	addr := cfg.Addr
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
	if err == nil {
		err = l.policy.set(e, cfg)
	}
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
	e.lend()
	if l.conn.FD >= 0 {
		_ = e.acceptor.Trigger(registerListenerTask, l)
	}
	return l, nil
}

// sort separates stream protocols from transports.
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
			l.engine.stats.transport(p.Name()) // listed before its first session
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

// bind opens the sockets, all on one port. On an error it closes them again.
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

// checkBind returns an error if the protocols cannot be served at addr.
func (l *Listener) checkBind(addr string, transports []Transport) error {
	if l.proxy != nil && len(l.streams) == 0 {
		return errors.New("ProxyProtocol without a stream protocol")
	}
	if _, ok := unixName(addr); ok {
		return checkUnix(transports)
	}
	if l.inherited == nil {
		return l.checkTCP()
	}
	if len(l.streams) == 0 {
		return fmt.Errorf("adopting a socket without a stream protocol: %w", errors.ErrUnsupported)
	}
	return nil // adoptStream checks the kind of socket
}

func checkUnix(transports []Transport) error {
	if len(transports) > 0 {
		return fmt.Errorf("%s on a Unix socket: %w", transports[0].Name(), errors.ErrUnsupported)
	}
	return nil
}

func (l *Listener) checkTCP() error {
	if l.proxy != nil && len(l.proxy.Trusted) == 0 {
		return errors.New("ProxyProtocol.Trusted is empty, so no peer could send a header")
	}
	return nil
}

// openStream opens the listener's stream socket, or adopts it.
func (l *Listener) openStream(addr string, transports []Transport) (err error) {
	opts := l.engine.cfg.Socket.system()
	if l.inherited != nil {
		return l.adoptStream(opts, transports)
	}
	name, ok := unixName(addr)
	if !ok {
		l.conn.FD, l.addr, err = reactor.ListenTCP(addr, opts)
		return err
	}
	l.name = addr
	l.conn.FD, l.file, err = listenUnix(name, opts)
	return err
}

// release closes the sockets that bind opened.
func (l *Listener) release() {
	for _, ep := range l.endpoints {
		ep.StopAccepting()
		_ = ep.Close()
	}
	l.endpoints = nil
	l.closeStream()
	l.addr = netip.AddrPort{}
}

// Addr returns the bound address, the same for all protocols of the listener; the zero
// AddrPort for a Unix socket, which Path and String name.
func (l *Listener) Addr() netip.AddrPort { return l.addr }

// String returns the listener's address in the form that Listen takes: "host:port", or
// "unix:" and a path or name.
func (l *Listener) String() string {
	if l.name != "" {
		return l.name
	}
	return l.addr.String()
}

// Path returns the path of a Unix socket; "" for other listeners and abstract names.
func (l *Listener) Path() string {
	name, _ := unixName(l.name)
	if strings.HasPrefix(name, "@") {
		return ""
	}
	return name
}

// Close stops accepting. Sessions continue. It returns nil and does not wait (see Done); a
// second call does nothing.
func (l *Listener) Close() error {
	if !l.closed.CompareAndSwap(false, true) {
		return nil
	}
	for _, ep := range l.endpoints {
		ep.StopAccepting()
	}
	if len(l.streams) == 0 {
		l.setDone()
		return nil
	}
	_ = l.engine.acceptor.Trigger(closeListenerTask, l)
	return nil
}

// Done returns a channel that is closed when the listener has accepted its last
// connection and closed its stream socket, soon after Close. After that, a Stats.Active
// of 0 means that no connection of this listener is left to serve.
func (l *Listener) Done() <-chan struct{} { return l.done }

func (l *Listener) setDone() { l.doneOnce.Do(func() { close(l.done) }) }

// stopAccepting closes every listener and admits no more sessions.
func (e *Engine) stopAccepting() {
	e.draining.Store(true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, l := range e.listeners {
		_ = l.Close()
	}
}

// closeListeners closes the listeners' sockets, when no session is left.
func (e *Engine) closeListeners() {
	for _, l := range e.listeners {
		l.closeEndpoints()
		if !e.started {
			_ = closeListenerTask(l)
		}
	}
}

func closeListenerTask(arg any) error {
	l := arg.(*Listener)
	l.closeStream()
	l.setDone()
	return nil
}

// closeStream closes the listening socket. On the acceptor, or when the acceptor does
// not run.
func (l *Listener) closeStream() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn.FD < 0 {
		return
	}
	if l.conn.Handler != nil {
		l.engine.acceptor.Remove(&l.conn)
	}
	// Before closing: while the socket listens, no other process takes its file for stale.
	if err := l.file.unlink(); err != nil {
		l.engine.cfg.Logger.Error("socket file not removed", "addr", l.String(), "error", err)
	}
	l.file = socketFile{}
	reactor.Close(l.conn.FD)
	l.conn.FD = -1
}

// closeEndpoints closes the transports' sockets, once.
func (l *Listener) closeEndpoints() {
	l.released.Do(func() {
		for _, ep := range l.endpoints {
			if err := ep.Close(); err != nil {
				l.engine.cfg.Logger.Error("closing an endpoint", "addr", ep.Addr().String(), "error", err)
			}
		}
	})
}
