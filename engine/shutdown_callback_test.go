package engine_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestCloseFromACallback must not wait forever for the callback that calls it: it returns
// ErrStillRunning, and the engine closes after the callback.
func TestCloseFromACallback(t *testing.T) {
	const limit = 50 * time.Millisecond
	for name, end := range map[string]func(*engine.Engine) error{
		"Close": (*engine.Engine).Close,
		"Shutdown": func(e *engine.Engine) error {
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			return e.Shutdown(ctx)
		},
	} {
		for _, where := range []string{"OnOpen", "OnMessage", "OnClose"} {
			t.Run(name+" in "+where, func(t *testing.T) {
				eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
					ended, closed := make(chan error, 1), make(chan error, 2)
					act := func(s *engine.Session, here string) {
						if here != where {
							return
						}
						select {
						case ended <- end(s.Engine()):
						default: // of the second session
						}
					}
					h := engine.HandlerFuncs{
						Open:    func(s *engine.Session) { act(s, "OnOpen") },
						Message: func(s *engine.Session, _ *framing.Message) { act(s, "OnMessage") },
						Close: func(s *engine.Session, reason error) {
							act(s, "OnClose")
							closed <- reason
						},
					}
					e := engine.New(engine.Config{Handler: h, Dispatch: d, ShutdownTimeout: limit, Cores: 1})
					l := mustListen(t, e)
					served := make(chan error, 1)
					go func() { served <- e.Serve(context.Background()) }()
					c := dial(t, l.Addr().String())
					_, _ = c.Write(ping)
					if where == "OnClose" {
						_ = c.CloseWrite()
					}
					select {
					case err := <-ended:
						if !errors.Is(err, engine.ErrStillRunning) || !errors.Is(err, context.DeadlineExceeded) {
							t.Errorf("in the callback: %v", err)
						}
					case <-time.After(10 * time.Second):
						t.Fatal("it hangs")
					}
					for range 2 { // now that the callback has returned
						if err := waitClosed(e); err != nil {
							t.Errorf("later: %v", err)
						}
					}
					<-closed
					<-l.Done()
					if err := <-served; !errors.Is(err, engine.ErrClosed) {
						t.Error(err)
					}
				})
			})
		}
	}
}

// waitClosed calls Close until the engine is closed: the callback that delays it
// may take a moment to return.
func waitClosed(e *engine.Engine) (err error) {
	for range 100 {
		if err = e.Close(); !errors.Is(err, engine.ErrStillRunning) {
			return err
		}
	}
	return err
}

// TestServeReportsSessionsThatItCut: a session with a Hold is cut after ShutdownTimeout,
// and Serve returns an error.
func TestServeReportsSessionsThatItCut(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		for _, hold := range []bool{true, false} {
			j := newJournal(func(s *engine.Session, m *framing.Message) {
				if hold {
					s.Hold()
				}
				reply(s, m)
			})
			cfg := engine.Config{Handler: j, Dispatch: d, ShutdownTimeout: 20 * time.Second, LingerTimeout: 10 * time.Millisecond}
			if hold {
				cfg.ShutdownTimeout = 100 * time.Millisecond
			}
			e := engine.New(cfg)
			l := mustListen(t, e)
			ctx, cancel := context.WithCancel(context.Background())
			served := make(chan error, 1)
			go func() { served <- e.Serve(ctx) }()
			c := dial(t, l.Addr().String())
			_, _ = c.Write(ping)
			expect(t, c, pong)
			cancel()
			err := <-served
			if !hold && err != nil {
				t.Errorf("a clean shutdown: %v", err)
			}
			if hold && (!errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "cut 1 session")) {
				t.Errorf("a session was cut: %v", err)
			}
			j.reason(t)
		}
	})
}

// TestServeThatClosesAtOnceReportsNothing: a negative ShutdownTimeout asks for it.
func TestServeThatClosesAtOnceReportsNothing(t *testing.T) {
	j := newJournal(func(s *engine.Session, m *framing.Message) {
		s.Hold()
		reply(s, m)
	})
	e := engine.New(engine.Config{Handler: j, ShutdownTimeout: -1})
	l := mustListen(t, e)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- e.Serve(ctx) }()
	c := dial(t, l.Addr().String())
	_, _ = c.Write(ping)
	expect(t, c, pong)
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
		t.Error(err)
	}
}

// TestShutdownOfAnIdleEngineIsClean with an ended context, too: no session is cut.
func TestShutdownOfAnIdleEngineIsClean(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	e, _ := serve(t, engine.Config{Handler: echo})
	if err := e.Shutdown(ctx); err != nil {
		t.Error(err)
	}
}
