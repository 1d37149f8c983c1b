package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// startEngine serves cfg on all three transports until the test ends, when the
// shutdown must succeed, and returns the engine and host:port.
func startEngine(t *testing.T, cfg engine.Config) (*engine.Engine, string) {
	t.Helper()
	e, addr := serve.Start(t, cfg, engine.Packets(), wsupgrade.New(wsupgrade.Config{Packets: []string{"/ws"}, Plain: []string{"/echo"}}),
		quicbridge.QUIC())
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
	})
	return e, addr
}

// echoHandler echoes, and checks the guarantees for a handler: for each session
// OnOpen, then its messages one at a time, then OnClose once. All transports use
// this handler.
type echoHandler struct {
	// onMessage, if not nil, gets each message before it is answered.
	onMessage func(s *engine.Session, m *framing.Message)

	messages, opened atomic.Int64

	mu     sync.Mutex // guards the fields below
	ends   []ending
	broken []error
}

// ending is how a session ended.
type ending struct {
	transport string
	reason    error
}

// sessionKey finds a session's state among its values.
type sessionKey struct{}

// sessionState is echoHandler's record of a session.
type sessionState struct {
	busy   atomic.Bool // in a callback
	closed atomic.Bool
}

var _ engine.Handler = (*echoHandler)(nil)

// enter begins a callback of s. The returned function ends it.
func (h *echoHandler) enter(s *engine.Session, callback string) (leave func()) {
	state, ok := s.Value(sessionKey{}).(*sessionState)
	switch {
	case !ok:
		h.fail(fmt.Errorf("%s: %s before OnOpen", s.Transport(), callback))
		return func() {}
	case state.busy.Swap(true):
		h.fail(fmt.Errorf("%s: %s while another callback runs", s.Transport(), callback))
	case state.closed.Load():
		h.fail(fmt.Errorf("%s: %s after OnClose", s.Transport(), callback))
	}
	return state.leave
}

func (state *sessionState) leave() { state.busy.Store(false) }

func (h *echoHandler) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broken = append(h.broken, err)
}

func (h *echoHandler) OnOpen(s *engine.Session) {
	if s.Value(sessionKey{}) != nil {
		h.fail(fmt.Errorf("%s: OnOpen twice", s.Transport()))
	}
	s.SetValue(sessionKey{}, new(sessionState))
	h.opened.Add(1)
}

func (h *echoHandler) OnMessage(s *engine.Session, m *framing.Message) {
	leave := h.enter(s, "OnMessage")
	defer leave()
	h.messages.Add(1)
	if h.onMessage != nil {
		h.onMessage(s, m)
	}
	if m.Type == framing.Request {
		m.Type = framing.Response
	}
	s.SendMessage(m)
}

func (h *echoHandler) OnClose(s *engine.Session, reason error) {
	leave := h.enter(s, "OnClose")
	defer leave()
	if state, ok := s.Value(sessionKey{}).(*sessionState); ok {
		state.closed.Store(true)
	}
	if reason == nil {
		h.fail(fmt.Errorf("%s: OnClose without a reason", s.Transport()))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends = append(h.ends, ending{s.Transport(), reason})
}

// awaitEnds waits until n sessions have ended and returns how.
func (h *echoHandler) awaitEnds(t *testing.T, n int) []ending {
	t.Helper()
	var ends []ending
	testkit.Eventually(t, func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		ends = append(ends[:0], h.ends...)
		return len(ends) >= n
	}, fmt.Sprintf("%d sessions ended", n))
	return ends
}

// check fails the test for each broken guarantee.
func (h *echoHandler) check(t *testing.T) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := errors.Join(h.broken...); err != nil {
		t.Error(err)
	}
}
