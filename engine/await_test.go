package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// checking is hello, or packets, whose codec has a check of its own by Await.
type checking struct {
	hello
	check    func(ctx context.Context) error
	inAccept bool // Await is called in Accept, and there is no handshake
}

func (p checking) Accept(ctl *engine.Control) engine.Codec {
	if p.inAccept {
		ctl.Await(p.check)
		return &skippingCodec{Codec: p.then.Accept(ctl)}
	}
	return &checkingCodec{helloCodec{Codec: p.then.Accept(ctl)}, p.check}
}

type checkingCodec struct {
	helloCodec
	check func(ctx context.Context) error
}

func (c *checkingCodec) Decode(ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
	if !c.greeted && (!ctl.Await(c.check) || !ctl.Authorize()) {
		return 0, false, nil
	}
	return c.helloCodec.Decode(ctl, b, seen, m)
}

// skippingCodec has no handshake, and drops the hello.
type skippingCodec struct {
	engine.Codec
	greeted bool
}

func (c *skippingCodec) Decode(ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
	if c.greeted {
		return c.Codec.Decode(ctl, b, seen, m)
	}
	c.greeted = true
	return len("hello"), false, nil
}

// TestAwaitIsNoAuthorization: a codec that awaits a check of its own still has the session
// authorized, after the check.
func TestAwaitIsNoAuthorization(t *testing.T) {
	for _, inAccept := range []bool{false, true} {
		for _, verdict := range []error{nil, errors.New("no")} {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				order := make(chan string, 3)
				_, addr := serve(t, engine.Config{Dispatch: d,
					Handler:   engine.HandlerFuncs{Open: func(*engine.Session) { order <- "open" }},
					Authorize: func(context.Context, *engine.Handshake) error { order <- "authorize"; return verdict },
				}, checking{hello{engine.Packets()}, func(context.Context) error { order <- "check"; return nil }, inAccept})
				c := dial(t, addr)
				_, _ = c.Write([]byte("hello"))
				want := []string{"check", "authorize", "open"}
				if verdict != nil {
					want = want[:2]
					if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
						t.Error("admitted")
					}
				}
				for _, step := range want {
					if got := <-order; got != step {
						t.Fatalf("%s before %s", got, step)
					}
				}
				if len(order) > 0 {
					t.Error(<-order)
				}
			})
		}
	}
}

// TestAwaitInAcceptOpensAfterIt: without Authorizers, too, the session opens after the
// function has returned.
func TestAwaitInAcceptOpensAfterIt(t *testing.T) {
	gate := make(chan struct{})
	j := newJournal(nil)
	_, addr := serve(t, engine.Config{Handler: j, Cores: 1},
		checking{hello{engine.Packets()}, func(context.Context) error { <-gate; return errors.New("no") }, true})
	c := dial(t, addr)
	close(gate)
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("admitted")
	}
	if len(j.opened) > 0 || len(j.reasons) > 0 {
		t.Error("the handler has seen it")
	}
}

// TestAwaitOfARefusedConnection: the codec of a refused connection starts no function, and
// the count of handshakes stays right.
func TestAwaitOfARefusedConnection(t *testing.T) {
	calls := make(chan struct{}, 10)
	e, addr := listenWith(t, engine.Config{Handler: echo, Cores: 1, MaxHandshakes: 1, SniffTimeout: -1},
		engine.ListenConfig{MaxSessionsOf: map[string]int{"hello": 1}},
		checking{hello{engine.Packets()}, func(context.Context) error { calls <- struct{}{}; return nil }, true})
	first := dial(t, addr)
	_, _ = first.Write(append([]byte("hello"), ping...))
	<-calls
	expect(t, first, pong)
	second := dial(t, addr)
	_, _ = second.Write([]byte("hello"))
	if n, err := second.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("admitted")
	}
	_ = second.Close()
	waitFor(t, "the refused connection to be gone", func() bool { return e.Stats().Refused["max_sessions_of_protocol"] == 1 })
	for range 2 {
		dial(t, addr) // silent: a handshake
	}
	waitFor(t, "the bound of handshakes", func() bool { return e.Stats().Refused["max_handshakes"] == 1 })
	if len(calls) > 0 {
		t.Error("a function was called")
	}
}

// TestFirstEndsWithTheSession: First returns when the peer is gone, even with a context
// that does not end; else the engine could not close.
func TestFirstEndsWithTheSession(t *testing.T) {
	entered, failed := make(chan struct{}), make(chan error, 1)
	_, addr := serve(t, engine.Config{Handler: echo, HandshakeTimeout: -1, SniffTimeout: -1,
		Authorize: func(_ context.Context, h *engine.Handshake) error {
			close(entered)
			_, err := h.First(context.Background())
			failed <- err
			return err
		}})
	c := dial(t, addr)
	<-entered
	_ = c.Close()
	if err := <-failed; !errors.Is(err, engine.ErrClosed) {
		t.Error(err)
	}
}
