package engine_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine"
)

// TestAdmittedConnectionComesTooLate opens a session of a connection that was let
// in before the engine was closed: nothing would end it.
func TestAdmittedConnectionComesTooLate(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		f := &fake{}
		e, _ := serve(t, engine.Config{Handler: echo, Dispatch: d, Cores: 1}, f)
		remote := netip.MustParseAddrPort("127.0.0.1:9")
		if err := f.host.Admit(remote); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		l := &fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}
		_, err := f.host.Open(l, engine.OpenInfo{Remote: remote, Admitted: true})
		if !errors.Is(err, engine.ErrShutdown) {
			t.Error(err)
		}
		if n := e.Stats().Active; n != 0 {
			t.Errorf("%d sessions behind Close", n)
		}
	})
}
