package engine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// fake is a transport whose connections are made by the test.
type fake struct {
	host   *engine.Host
	closed []func() // called by Endpoint.Close, which waits for them
}

func (*fake) Name() string { return "fake" }
func (f *fake) Listen(h *engine.Host, addr string) (engine.Endpoint, error) {
	f.host = h
	a, err := net.ResolveUDPAddr("udp", addr)
	return &fakeEndpoint{f, a}, err
}
func (f *fake) Dial(context.Context, *engine.Host, string) (*engine.Port, error) {
	return nil, errors.ErrUnsupported
}

type fakeEndpoint struct {
	fake *fake
	addr net.Addr
}

func (e *fakeEndpoint) Addr() net.Addr { return e.addr }
func (*fakeEndpoint) StopAccepting()   {}
func (e *fakeEndpoint) Close() error {
	for _, f := range e.fake.closed {
		f()
	}
	return nil
}

// fakeLink is a connection of fake: closing it ends the session at once.
type fakeLink struct {
	opened  chan struct{} // port and session are set
	port    *engine.Port
	session *engine.Session
	once    sync.Once
	paused  atomic.Bool
	flushes atomic.Int32
	onPause func(bool)
	ended   chan struct{}
}

func (l *fakeLink) Send(*framing.Message) error                         { return nil }
func (l *fakeLink) SendContext(context.Context, *framing.Message) error { return nil }
func (l *fakeLink) Flush()                                              { l.flushes.Add(1) }
func (l *fakeLink) RemoteAddr() netip.AddrPort                          { return netip.AddrPort{} }
func (l *fakeLink) TLS() *tls.ConnectionState                           { return nil }
func (l *fakeLink) PauseReading(p bool) {
	if l.onPause != nil {
		l.onPause(p)
	}
	l.paused.Store(p)
}
func (l *fakeLink) Close(reason error, _ bool) {
	l.once.Do(func() {
		go func() {
			<-l.opened
			l.port.Ended(reason)
			close(l.ended)
		}()
	})
}

func (f *fake) open(t testing.TB) *fakeLink {
	t.Helper()
	l := &fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}
	p, err := f.host.Open(l, engine.OpenInfo{Remote: netip.MustParseAddrPort("127.0.0.1:9")})
	if err != nil {
		t.Fatal(err)
	}
	l.port, l.session = p, p.Session()
	close(l.opened)
	return l
}

// fill puts messages into the ring of l's core until it has no space for another one.
func (l *fakeLink) fill() (n int) {
	for l.port.TryDeliver(&framing.Message{}) == nil {
		n++
	}
	return n
}
