package engine_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine"
)

// TestOldIDFindsNobody closes a session and opens others, of which one gets its
// slot: the old ID must not find that one.
func TestOldIDFindsNobody(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(nil)
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1})
		old := map[engine.ID]bool{}
		for range 10 {
			c := dial(t, addr)
			s := j.session(t)
			if e.Session(s.ID()) != s {
				t.Fatal("a session isn't found by its ID")
			}
			for id := range old {
				if found := e.Session(id); found != nil {
					t.Fatalf("%x finds %x", id, found.ID())
				}
			}
			old[s.ID()] = true
			s.Abort(nil)
			_ = c.Close()
			waitFor(t, "the slot to be free", func() bool { return e.Stats().Active == 0 })
		}
	})
}

// TestLocalAddrOfAnEndedSession has others take the descriptor of a session that
// has ended: its address must not be theirs.
func TestLocalAddrOfAnEndedSession(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(nil)
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1})
		c := dial(t, addr)
		s := j.session(t)
		if a := s.LocalAddr(); a.String() != addr {
			t.Errorf("%v instead of %s", a, addr)
		}
		s.Abort(nil)
		waitFor(t, "its end", func() bool { return e.Stats().Active == 0 })
		_ = c.Close()
		for range 8 {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = l.Close() }()
		}
		if a := s.LocalAddr(); a != (netip.AddrPort{}) {
			t.Errorf("an ended session has the address %v", a)
		}
	})
}
