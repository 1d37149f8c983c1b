package engine

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/reactor"
)

// Dial connects to addr ("host:port", or a Unix socket as in Listen) by p and returns
// an open session of this engine. It starts the engine if necessary. The session is
// then like an accepted one, with the same handler. Dial blocks until the handshake is
// done, ctx ends, or Config.HandshakeTimeout has passed: do not call it from a
// callback. Errors: those of the network and of the protocol's handshake, ctx's,
// ErrRefused, ErrShutdown and ErrClosed.
func (e *Engine) Dial(ctx context.Context, addr string, p Protocol) (*Session, error) {
	return e.DialWith(ctx, DialConfig{Addr: addr}, p)
}

// DialConfig configures one call of DialWith.
type DialConfig struct {
	// Addr is the address to connect to, as for Dial.
	Addr string

	// Setup, if it is not nil, is called with the session before OnOpen, for example to
	// attach values: OnOpen may run before DialWith returns, or after. It must not send.
	// It runs on the goroutine of DialWith, which returns its panic as a PanicError.
	Setup func(s *Session)
}

// setUp calls setup, unless it is nil. A panic is returned as an error.
func setUp(s *Session, setup func(s *Session)) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := newPanicError(v)
			s.notePanic(p)
			err = p
		}
	}()
	if setup != nil {
		setup(s)
	}
	return nil
}

// DialWith is Dial with more settings.
func (e *Engine) DialWith(ctx context.Context, cfg DialConfig, p Protocol) (*Session, error) {
	addr := cfg.Addr
	if err := e.Start(); err != nil {
		return nil, err
	}
	if t := e.cfg.HandshakeTimeout; t > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, t)
		defer cancel()
	}
	var s *Session
	var err error
	switch p := p.(type) {
	case StreamProtocol:
		s, err = e.dialStream(ctx, &cfg, p)
	case Transport:
		var port *Port
		if port, err = p.Dial(ctx, &Host{engine: e, name: p.Name(), setup: cfg.Setup}, addr); err == nil {
			s = port.Session()
		}
	default:
		err = fmt.Errorf("protocol %T is neither a StreamProtocol nor a Transport", p)
	}
	if err != nil {
		return nil, fmt.Errorf("engine: dial %s: %w", addr, err)
	}
	return s, nil
}

func (e *Engine) dialStream(ctx context.Context, cfg *DialConfig, p StreamProtocol) (*Session, error) {
	addr := cfg.Addr
	conn, err := e.dialSocket(ctx, addr)
	if err != nil {
		return nil, err
	}
	unwatch := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	codec, rest, err := connect(ctx, p, conn, peerHost(addr), e.lim)
	if !unwatch() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	remote, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	fd, err := reactor.Take(conn)
	if err != nil {
		return nil, err
	}
	return e.attachDialed(cfg, fd, remote, &dialed{codec: codec, rest: rest, transport: e.stats.transport(transportName(p, addr))})
}

// connect calls p.Connect. A panic of p is returned as an error.
func connect(ctx context.Context, p StreamProtocol, conn net.Conn, addr string, limits Limits) (c Codec, rest []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
	}()
	return p.Connect(ctx, conn, addr, limits)
}

// dialSocket connects to addr, "host:port" or "unix:" and a path, with the
// engine's socket options.
func (e *Engine) dialSocket(ctx context.Context, addr string) (net.Conn, error) {
	opts := e.cfg.Socket.system()
	network, tcp := "tcp", true
	if name, ok := unixName(addr); ok {
		network, addr, tcp = "unix", name, false
	}
	d := net.Dialer{}
	if opts.KeepAlive.Set {
		d.KeepAlive = -1 // control sets ours
	}
	if local := e.cfg.Socket.LocalAddr; local.IsValid() && tcp {
		d.LocalAddr = net.TCPAddrFromAddrPort(local)
	}
	// Control runs before connect: the buffers decide on the offered TCP window.
	d.Control = func(_, _ string, c syscall.RawConn) error { return control(c, opts, tcp) }
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil || !tcp {
		return conn, err
	}
	// Package net has turned Nagle's algorithm off after connecting.
	if err := conn.(*net.TCPConn).SetNoDelay(!opts.Nagle); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func control(c syscall.RawConn, opts *reactor.Options, tcp bool) error {
	var applyErr error
	if err := c.Control(func(fd uintptr) { applyErr = opts.Apply(int(fd), tcp) }); err != nil {
		return err
	}
	return applyErr
}

// attachDialed hands a connected socket to a core and waits until its session is open.
func (e *Engine) attachDialed(cfg *DialConfig, fd int, remote netip.AddrPort, d *dialed) (*Session, error) {
	if err := e.admitDialed(); err != nil {
		reactor.Close(fd)
		return nil, err
	}
	if !e.beginSession() {
		reactor.Close(fd)
		e.release(nil, netip.Addr{})
		return nil, ErrShutdown
	}
	s, c := newSocketSession(e, nil, fd, remote)
	s.transport = d.transport
	setDialed(c, d.codec)
	d.conn, d.done = c, make(chan error, 1)
	if err := setUp(s, cfg.Setup); err != nil {
		reactor.Close(fd)
		e.release(nil, netip.Addr{})
		e.sessionGone()
		return nil, err
	}
	if err := s.core.loop.Trigger(attachDialedTask, d); err != nil {
		return nil, err
	}
	select {
	case err := <-d.done:
		return s, err
	case <-e.done:
		return nil, ErrClosed
	}
}

// dialed is a connection whose handshake is done.
type dialed struct {
	codec     Codec
	rest      []byte // bytes that were read after the handshake
	transport *transportStats
	conn      *socketConn
	done      chan error
}

// attachDialedTask opens a dialed session, on its loop.
func attachDialedTask(arg any) error {
	d := arg.(*dialed)
	c := d.conn
	s, k := c.session, c.core()
	if !k.slots.add(k.index, s) {
		unattached(c, errNoSlot)
		d.done <- errNoSlot
		return nil
	}
	s.transport.active.Add(1)
	if c.tls != nil {
		memory.add(tlsMemory)
	}
	c.establish()
	c.register(ErrConnectionLost)
	if len(d.rest) > 0 && c.input < inputDraining {
		c.process(d.rest, 0)
	}
	if c.tls != nil {
		c.read() // crypto/tls may have read more than the handshake
	}
	c.attached()
	d.done <- nil
	return nil
}

// peerHost returns the name of the peer at addr for a protocol's handshake. A Unix
// socket has no host: it is "localhost".
func peerHost(addr string) string {
	if _, ok := unixName(addr); ok {
		return "localhost"
	}
	return addr
}
