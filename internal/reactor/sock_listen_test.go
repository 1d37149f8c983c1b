//go:build linux

package reactor

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/testkit"
)

type counter struct{ n atomic.Int32 }

func (c *counter) OnEvent(Event) { c.n.Add(1) }

// onLoop runs f on l and waits.
func onLoop(t *testing.T, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	if err := l.Trigger(func(any) error { f(); close(done); return nil }, nil); err != nil {
		t.Fatal(err)
	}
	<-done
}

// twoLoops runs two loops of one table until the test ends.
func twoLoops(t *testing.T) [2]*Loop {
	t.Helper()
	var table Table
	var loops [2]*Loop
	for i := range loops {
		l, err := Open(&table)
		if err != nil {
			t.Fatal(err)
		}
		loops[i] = l
		ended := make(chan error, 1)
		go func() { ended <- l.Run() }()
		t.Cleanup(func() {
			_ = l.Stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	return loops
}

// TestClosedListenerHearsNothing closes a listener whose socket lives on in a
// duplicate, as in another process, gives its descriptor's number to another
// socket, and connects. Remove keeps the loop from hearing of that; and where an
// event does come, as after Unregister alone, another loop's handler is spared.
func TestClosedListenerHearsNothing(t *testing.T) {
	t.Run("removed", func(t *testing.T) {
		loops := twoLoops(t)
		testClosedListener(t, loops[0], loops[0], (*Loop).Remove)
	})
	t.Run("another loop", func(t *testing.T) {
		loops := twoLoops(t)
		testClosedListener(t, loops[0], loops[1], (*Loop).Unregister)
	})
}

// testClosedListener has the first loop forget the listener, and the second one
// take the socket that gets its descriptor's number.
func testClosedListener(t *testing.T, first, second *Loop, forget func(*Loop, *Conn)) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	fd, addr, err := ListenTCP("127.0.0.1:0", &Options{})
	must(err)
	dup, err := Dup(fd)
	must(err)
	defer Close(dup)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	must(err)
	defer Close(pair[0])
	defer Close(pair[1])
	var before, after counter
	a, b := &Conn{FD: fd, Handler: &before}, &Conn{FD: fd, Handler: &after}
	onLoop(t, first, func() { err = first.Register(a) })
	must(err)
	onLoop(t, first, func() {
		forget(first, a)
		err = unix.Dup3(pair[0], fd, unix.O_CLOEXEC) // closes it, too
	})
	must(err)
	defer Close(fd)
	onLoop(t, second, func() { err = second.Register(b) })
	must(err)
	testkit.Eventually(t, func() bool { return after.n.Load() > 0 }, "the new socket's first event")
	time.Sleep(20 * time.Millisecond)
	events := after.n.Load()
	for range 5 {
		conn, err := net.Dial("tcp", addr.String())
		must(err)
		_ = conn.Close()
	}
	time.Sleep(50 * time.Millisecond)
	if n := after.n.Load() - events; n != 0 {
		t.Errorf("%d events of a closed listener reached another socket's handler", n)
	}
	onLoop(t, second, func() { second.Unregister(b) })
}
