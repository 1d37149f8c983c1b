package engine_test

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/engine"
)

// TestDialSetup attaches a value before OnOpen, over a socket and over a Transport.
func TestDialSetup(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		seen := make(chan any, 4)
		e, addr := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFuncs{Open: func(s *engine.Session) {
			if s.Dialed() {
				seen <- s.Value(key("name"))
			}
		}}})
		for _, p := range []engine.Protocol{engine.Packets(), &dialable{}} {
			s, err := e.DialWith(t.Context(), engine.DialConfig{Addr: addr, Setup: func(s *engine.Session) { s.SetValue(key("name"), p.Name()) }}, p)
			if err != nil {
				t.Fatal(err)
			}
			if v := <-seen; v != p.Name() || s.Value(key("name")) != p.Name() {
				t.Errorf("%s: %v", p.Name(), v)
			}
		}
	})
}

// TestDialSetupPanics: a panic of Setup is an error, and leaves no session counted.
func TestDialSetupPanics(t *testing.T) {
	_, addr := serve(t, engine.Config{Handler: echo})
	e, _ := serve(t, engine.Config{Handler: echo, MaxSessions: 1})
	for _, p := range []engine.Protocol{engine.Packets(), &dialable{}} {
		for range 2 {
			var panicked *engine.PanicError
			_, err := e.DialWith(t.Context(), engine.DialConfig{Addr: addr, Setup: func(*engine.Session) { panic("boom") }}, p)
			if !errors.As(err, &panicked) || panicked.Value != "boom" {
				t.Errorf("%s: %v", p.Name(), err)
			}
		}
	}
	if n := e.Stats().Active; n != 0 {
		t.Errorf("%d sessions are left", n)
	}
}

// dialable is a fake that can dial.
type dialable struct{ fake }

func (*dialable) Dial(_ context.Context, h *engine.Host, _ string) (*engine.Port, error) {
	l := &fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}
	p, err := h.Open(l, engine.OpenInfo{Dialed: true})
	if err == nil {
		l.port, l.session = p, p.Session()
		close(l.opened)
	}
	return p, err
}
