package engine

import (
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/millrace/millrace/framing"
)

// TestAcceptedConnectionMeetsShutdown hands an accepted connection to its loop
// when a shutdown has passed by there: the session must end by itself. The acceptor
// does that in the instant between counting the connection and triggering the
// loop, which no test from outside can hit.
func TestAcceptedConnectionMeetsShutdown(t *testing.T) {
	for _, d := range []Dispatch{Workers, Inline} {
		closed := make(chan error, 1)
		e := New(Config{Cores: 1, Dispatch: d, Handler: HandlerFuncs{
			Message: func(*Session, *framing.Message) {},
			Close:   func(_ *Session, reason error) { closed <- reason },
		}})
		l, err := e.Listen("127.0.0.1:0", Packets())
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.SetNonblock(pair[0], true); err != nil {
			t.Fatal(err)
		}
		if err := e.admit(l, netip.Addr{}); err != nil || !e.admission.beginHandshake(1) || !e.beginSession() {
			t.Fatal("not admitted: ", err)
		}
		s, c := newSocketSession(e, l, pair[0], netip.AddrPort{})
		c.stage = stageTLSOrPlain
		e.stopAccepting()
		_ = s.core.loop.Trigger(shutdownTask, s.core)
		_ = s.core.loop.Trigger(attachTask, c)
		peer := os.NewFile(uintptr(pair[1]), "peer")
		if n, err := peer.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Error(n, err)
		}
		_ = peer.Close()
		if err := <-closed; err != ErrShutdown {
			t.Error(err)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}
