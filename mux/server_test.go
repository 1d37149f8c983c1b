package mux

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds how long a test waits for what must come. No test's verdict
// depends on its length.
const patience = 20 * time.Second

// patient is a context that ends with the test, or with its patience.
func patient(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// receive returns the next value of ch, or fails the test.
func receive[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("%s didn't come", what)
		panic("unreachable")
	}
}

// pair is a session seen from its two ends, each an engine with a Mux.
type pair struct {
	dialed, accepted *engine.Session
	client, server   *Mux
	clientEngine     *engine.Engine
	serverEngine     *engine.Engine
}

// pairConfig is how a pair differs from the usual one.
type pairConfig struct {
	client, server engine.Handler // behind the muxes
	dispatch       engine.Dispatch
	listen, dial   engine.Protocol
	options        Options // of both muxes
}

// newPair connects two engines on loopback.
func newPair(t *testing.T, cfg pairConfig) *pair {
	t.Helper()
	if cfg.listen == nil {
		cfg.listen, cfg.dial = engine.Packets(), engine.Packets()
	}
	p := &pair{client: New(cfg.client, cfg.options), server: New(cfg.server, cfg.options)}
	opened := make(chan *engine.Session, 1)
	p.serverEngine = engine.New(engine.Config{
		Handler: onOpen{p.server, opened}, Dispatch: cfg.dispatch, Cores: 2,
	})
	l, err := p.serverEngine.Listen("127.0.0.1:0", cfg.listen)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.serverEngine.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.serverEngine.Close() })
	p.clientEngine = engine.New(engine.Config{Handler: p.client, Dispatch: cfg.dispatch, Cores: 2})
	t.Cleanup(func() { p.clientEngine.Close() })
	p.dialed, err = p.clientEngine.Dial(patient(t), l.Addr().String(), cfg.dial)
	if err != nil {
		t.Fatal(err)
	}
	p.accepted = receive(t, opened, "the accepted session")
	return p
}

// onOpen tells about opened sessions in front of a Mux.
type onOpen struct {
	*Mux
	opened chan<- *engine.Session
}

func (h onOpen) OnOpen(s *engine.Session) {
	h.Mux.OnOpen(s)
	h.opened <- s
}

// pending is how many requests wait on s.
func pending(x *Mux, s *engine.Session) int {
	tab := x.lookup(s)
	if tab == nil {
		return 0
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	return len(tab.calls)
}

// answerWith replies to every request with its payload behind prefix.
func answerWith(prefix string) engine.Handler {
	return engine.OnMessage(func(s *engine.Session, m *framing.Message) {
		s.Reply(m, append([]byte(prefix), m.Payload...))
	})
}

// keeper hands clones of all messages to a channel, and answers none.
type keeper chan *framing.Message

func (k keeper) OnOpen(*engine.Session)                          {}
func (k keeper) OnMessage(_ *engine.Session, m *framing.Message) { k <- m.Clone() }
func (k keeper) OnClose(*engine.Session, error)                  {}
