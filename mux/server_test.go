package mux

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair is a session seen from its two ends, each an engine with a Mux.
type pair struct {
	dialed, accepted *engine.Session
	client, server   *Mux
	clientEngine     *engine.Engine
	serverEngine     *engine.Engine
}

// pairConfig is how a pair differs from the usual one.
type pairConfig struct {
	client, server engine.Handler // the next handlers of the muxes
	dispatch       engine.Dispatch
	listen, dial   engine.Protocol
	config         Config // of both muxes
}

// newPair connects two engines on loopback.
func newPair(t *testing.T, cfg pairConfig) *pair {
	t.Helper()
	if cfg.listen == nil {
		cfg.listen, cfg.dial = engine.Packets(), engine.Packets()
	}
	p := &pair{client: New(cfg.client, cfg.config), server: New(cfg.server, cfg.config)}
	opened := make(chan *engine.Session, 1)
	var addr string
	p.serverEngine, addr = serve.Start(t, engine.Config{
		Handler: serve.Opened{Handler: p.server, C: opened}, Dispatch: cfg.dispatch, Cores: 2,
	}, cfg.listen)
	p.clientEngine = engine.New(engine.Config{Handler: p.client, Dispatch: cfg.dispatch, Cores: 2})
	t.Cleanup(func() { p.clientEngine.Close() })
	var err error
	p.dialed, err = p.clientEngine.Dial(testkit.Context(t), addr, cfg.dial)
	if err != nil {
		t.Fatal(err)
	}
	p.accepted = testkit.Receive(t, opened, "the accepted session")
	return p
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

// answerWith replies to every request with prefix and its payload.
func answerWith(prefix string) engine.Handler {
	return engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		s.Reply(m, append([]byte(prefix), m.Payload...))
	})
}

// keeper hands clones of all messages to a channel, and answers none.
type keeper chan *framing.Message

func (k keeper) OnOpen(*engine.Session)                          {}
func (k keeper) OnMessage(_ *engine.Session, m *framing.Message) { k <- m.Clone() }
func (k keeper) OnClose(*engine.Session, error)                  {}
