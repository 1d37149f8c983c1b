package engine_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// listenWith serves packets by cfg on an engine of ec.
func listenWith(t *testing.T, ec engine.Config, cfg engine.ListenConfig, protocols ...engine.Protocol) (*engine.Engine, string) {
	t.Helper()
	e, _ := serve(t, ec)
	cfg.Addr = "127.0.0.1:0"
	l, err := e.ListenWith(cfg, append(protocols, engine.Packets())...)
	if err != nil {
		t.Fatal(err)
	}
	return e, l.Addr().String()
}

// TestListenerHandler: a listener's sessions have its handler, and name it.
func TestListenerHandler(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(func(s *engine.Session, m *engine.Message) { _ = s.Reply(m, []byte("theirs")) })
		e, addr := listenWith(t, engine.Config{Handler: echo, Dispatch: d}, engine.ListenConfig{Handler: j})
		c := dial(t, addr)
		_, _ = c.Write(packet(&framing.Message{ID: 1, Type: framing.Request}))
		expect(t, c, packet(&framing.Message{ID: 1, Type: framing.Response, Payload: []byte("theirs")}))
		s := j.session(t)
		if s.Listener() == nil || s.Listener().Addr().String() != addr {
			t.Error(s.Listener())
		}
		_ = c.Close()
		j.reason(t)
		dialed, err := e.Dial(t.Context(), addr, engine.Packets())
		if err != nil || dialed.Listener() != nil {
			t.Error(err, dialed.Listener())
		}
	})
}

// TestListenerAuthorize: both Authorizers must admit.
func TestListenerAuthorize(t *testing.T) {
	order := make(chan string, 10)
	says := func(name string, err error) engine.Authorizer {
		return func(context.Context, *engine.Handshake) error { order <- name; return err }
	}
	for _, c := range []struct{ engine, listener error }{{nil, nil}, {errors.New("no"), nil}, {nil, errors.New("no")}} {
		_, addr := listenWith(t, engine.Config{Handler: echo, Authorize: says("engine", c.engine)},
			engine.ListenConfig{Authorize: says("listener", c.listener)})
		if refused(t, addr) != (c.engine != nil || c.listener != nil) {
			t.Error(c)
		}
		if first := <-order; first != "engine" {
			t.Errorf("%s was first", first)
		}
		if c.engine == nil && <-order != "listener" {
			t.Error("the listener's did not follow")
		}
	}
}

// TestListenerMaxSessions: the bound is the listener's, and ended sessions don't count.
func TestListenerMaxSessions(t *testing.T) {
	for name, cfg := range map[string]engine.ListenConfig{
		"max_sessions_of_listener": {MaxSessions: 1},
		"max_sessions_of_protocol": {MaxSessionsOf: map[string]int{"tcp": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			e, addr := listenWith(t, engine.Config{Handler: echo}, cfg)
			for range 3 {
				c := dial(t, addr)
				_, _ = c.Write(ping)
				expect(t, c, pong)
				before := e.Stats().Refused[name]
				if !refused(t, addr) {
					t.Error("a second one is served")
				}
				waitFor(t, "the refusal to be counted", func() bool { return e.Stats().Refused[name] == before+1 })
				_ = c.Close()
				waitFor(t, "no session", func() bool { return e.Stats().Active == 0 })
			}
		})
	}
}

// TestListenerMaxSessionsOf: each protocol has its own bound, Transports too, and one with
// a handshake tells its peer.
func TestListenerMaxSessionsOf(t *testing.T) {
	f := &fake{}
	greet := &scripted{
		match: func(first []byte) engine.Match { return map[bool]engine.Match{true: engine.MatchYes}[first[0] == 'h'] },
		codec: scriptedCodec{greeting: greets("hello", func(*engine.Control) {}),
			goodbye: func(dst []byte, reason error) []byte { return append(dst, reason.Error()...) }},
	}
	e, addr := listenWith(t, engine.Config{Handler: echo},
		engine.ListenConfig{MaxSessionsOf: map[string]int{"scripted": 1, "fake": 1}}, f, greet)
	first := dial(t, addr)
	_, _ = first.Write([]byte("hello"))
	waitFor(t, "a session", func() bool { return e.Stats().Active == 1 })
	second := dial(t, addr)
	_, _ = second.Write([]byte("hello"))
	expect(t, second, []byte("engine: refused: ListenConfig.MaxSessionsOf are there"))
	_ = second.Close()
	for range 2 {
		c := dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong) // packets have no bound
	}
	l := f.open(t)
	if _, err := f.host.Open(&fakeLink{}, engine.OpenInfo{}); !errors.Is(err, engine.ErrRefused) {
		t.Error(err)
	}
	if err := f.host.Admit(l.session.RemoteAddr()); !errors.Is(err, engine.ErrRefused) {
		t.Error(err)
	}
	_ = l.session.Close()
	<-l.ended
	waitFor(t, "the session to be gone", func() bool { return f.host.Admit(l.session.RemoteAddr()) == nil })
	f.host.Abandon(l.session.RemoteAddr(), engine.ErrHandshakeTimeout)
	if err := f.host.Admit(l.session.RemoteAddr()); err != nil {
		t.Error(err)
	}
}

// TestListenerLimits: each limit is that of the listener.
func TestListenerLimits(t *testing.T) {
	ends := func(t *testing.T, c net.Conn) {
		t.Helper()
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = c.Close()
	}
	for name, c := range map[string]struct {
		cfg   engine.ListenConfig
		check func(t *testing.T, e *engine.Engine, c net.Conn)
	}{
		"MaxMessageSize": {engine.ListenConfig{MaxMessageSize: 10}, func(t *testing.T, _ *engine.Engine, c net.Conn) {
			_, _ = c.Write(packet(&framing.Message{Payload: make([]byte, 11)}))
			ends(t, c)
		}},
		"IdleTimeout": {engine.ListenConfig{IdleTimeout: 50 * time.Millisecond}, func(t *testing.T, e *engine.Engine, c net.Conn) {
			_, _ = c.Write(ping)
			expect(t, c, pong)
			ends(t, c)
			waitFor(t, "the reason", func() bool { return e.Stats().Closed["idle_timeout"] == 1 })
		}},
		"HandshakeTimeout": {engine.ListenConfig{HandshakeTimeout: 50 * time.Millisecond}, func(t *testing.T, e *engine.Engine, c net.Conn) {
			_, _ = c.Write([]byte{'h'})
			ends(t, c)
			waitFor(t, "the reason", func() bool { return e.Stats().Refused["handshake_timeout"] == 1 })
		}},
		"MessageRate": {engine.ListenConfig{MessageRate: 2}, func(t *testing.T, e *engine.Engine, c net.Conn) {
			_, _ = c.Write(countedFrom(0, 5))
			waitFor(t, "a pause", func() bool { return e.Stats().Throttled > 0 })
		}},
		"ByteRate": {engine.ListenConfig{ByteRate: 40}, func(t *testing.T, e *engine.Engine, c net.Conn) {
			_, _ = c.Write(countedFrom(0, 5))
			waitFor(t, "a pause", func() bool { return e.Stats().Throttled > 0 })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			e, addr := listenWith(t, engine.Config{Handler: echo}, c.cfg, hello{engine.Packets()})
			c.check(t, e, dial(t, addr))
			if e.Stats().Accepted == 0 {
				t.Error("nothing was accepted")
			}
		})
	}
}

// TestListenConfigIsChecked refuses limits that make no sense.
func TestListenConfigIsChecked(t *testing.T) {
	e, _ := serve(t, engine.Config{Handler: echo, MaxMessageSize: 100})
	for _, cfg := range []engine.ListenConfig{
		{MaxMessageSize: 101}, {MaxMessageSize: -1}, {MaxSessionsOf: map[string]int{"tcp": 0}}, {Addr: "nowhere"},
	} {
		if cfg.Addr == "" {
			cfg.Addr = "127.0.0.1:0"
		}
		if l, err := e.ListenWith(cfg, engine.Packets()); err == nil {
			t.Errorf("%+v: %v", cfg, l)
		}
	}
}

// TestListenAndServe serves until its context ends, and returns the error of Listen.
func TestListenAndServe(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan *engine.Session, 100)
	e := engine.New(engine.Config{LingerTimeout: 10 * time.Millisecond,
		Handler: engine.HandlerFuncs{Open: func(s *engine.Session) { opened <- s; cancel() }}})
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	if err := engine.New(engine.Config{Handler: echo}).ListenAndServe(ctx, addr, engine.Packets()); err == nil {
		t.Error("two listeners have one address")
	}
	_ = free.Close()
	served := make(chan error, 1)
	go func() { served <- e.ListenAndServe(ctx, addr, engine.Packets()) }()
	waitFor(t, "a session", func() bool {
		if c, err := net.Dial("tcp", addr); err == nil {
			t.Cleanup(func() { _ = c.Close() })
		}
		return len(opened) > 0
	})
	if err := <-served; err != nil {
		t.Error(err)
	}
}
