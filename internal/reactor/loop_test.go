package reactor

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run starts a loop, which is stopped at the end of the test.
func run(t testing.TB) *Loop {
	t.Helper()
	l, err := Open(new(Table))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.Run() }()
	t.Cleanup(func() {
		if err := errors.Join(l.Stop(), <-done); err != nil {
			t.Error(err)
		}
	})
	return l
}

// on runs f on the loop and waits for it.
func on(t testing.TB, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	err := l.Trigger(func(any) error {
		f()
		close(done)
		return nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	<-done
}

type handler func(Event)

func (h handler) OnEvent(ev Event) { h(ev) }

// pair returns the two ends of a TCP connection: a descriptor and a net.Conn.
func pair(t testing.TB) (int, *net.TCPConn) {
	t.Helper()
	lfd, addr, err := ListenTCP("127.0.0.1:0", &Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer Close(lfd)
	c, err := net.Dial("tcp", addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	for {
		fd, remote, err := Accept(lfd)
		if err == unix.EAGAIN {
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if remote.String() != c.LocalAddr().String() {
			t.Fatalf("accepted %v, dialed from %v", remote, c.LocalAddr())
		}
		return fd, c.(*net.TCPConn)
	}
}

func TestEvents(t *testing.T) {
	l := run(t)
	fd, peer := pair(t)
	events := make(chan Event, 100)
	c := &Conn{FD: fd, Handler: handler(func(ev Event) { events <- ev })}
	on(t, l, func() {
		if err := l.Register(c); err != nil {
			t.Error(err)
		}
	})
	await := func(want Event) {
		t.Helper()
		for end := time.After(10 * time.Second); ; {
			select {
			case ev := <-events:
				if ev&want != 0 {
					return
				}
			case <-end:
				t.Fatal("no event ", want)
			}
		}
	}
	await(Writable) // it is from the start
	_, _ = peer.Write([]byte("hello"))
	await(Readable)
	buf := make([]byte, 10)
	if n, err := Read(fd, buf); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	if n, err := Read(fd, buf); n > 0 || err != unix.EAGAIN {
		t.Fatal(n, err)
	}
	_ = peer.CloseWrite()
	await(ToTheEnd)
	on(t, l, func() {
		l.Unregister(c)
		Close(fd)
	})
}

func TestUnregisteredHandlerHearsNothing(t *testing.T) {
	l := run(t)
	fd, peer := pair(t)
	var calls atomic.Int32
	c := &Conn{FD: fd, Handler: handler(func(Event) { calls.Add(1) })}
	on(t, l, func() { _ = l.Register(c) })
	on(t, l, func() { l.Unregister(c) })
	before := calls.Load()
	_, _ = peer.Write([]byte("hello"))
	time.Sleep(20 * time.Millisecond)
	on(t, l, func() {})
	if calls.Load() != before {
		t.Error("an event after Unregister")
	}
	on(t, l, func() { Close(fd) })
}

// TestAgainLetsOthersHaveTheirTurn has one handler that always wants another
// turn: sockets and tasks must get theirs all the same.
func TestAgainLetsOthersHaveTheirTurn(t *testing.T) {
	l := run(t)
	fd, peer := pair(t)
	got := make(chan struct{}, 100)
	c := &Conn{FD: fd, Handler: handler(func(ev Event) {
		if ev&Readable != 0 {
			got <- struct{}{}
		}
	})}
	var turns atomic.Int64
	var stop atomic.Bool
	var greedy handler
	greedy = func(Event) {
		turns.Add(1)
		if !stop.Load() {
			l.Again(greedy)
		}
	}
	on(t, l, func() {
		_ = l.Register(c)
		l.Again(greedy)
	})
	for turns.Load() < 1000 {
		time.Sleep(time.Millisecond)
	}
	_, _ = peer.Write([]byte("hello"))
	select {
	case <-got:
	case <-time.After(10 * time.Second):
		t.Error("the socket had no turn")
	}
	stop.Store(true)
	on(t, l, func() {
		l.Unregister(c)
		Close(fd)
	})
}

func TestTriggerKeepsOrder(t *testing.T) {
	l := run(t)
	var got []int
	for i := range 1000 {
		if err := l.Trigger(func(arg any) error { got = append(got, arg.(int)); return nil }, i); err != nil {
			t.Fatal(err)
		}
	}
	on(t, l, func() {
		for i, n := range got {
			if i != n {
				t.Errorf("task %d ran as number %d", n, i)
				return
			}
		}
		if len(got) != 1000 {
			t.Errorf("%d of 1000 tasks ran", len(got))
		}
	})
}

func TestTakeLeavesTheConnectionToTheCaller(t *testing.T) {
	fd, peer := pair(t)
	defer Close(fd)
	taken, err := Take(peer)
	if err != nil {
		t.Fatal(err)
	}
	defer Close(taken)
	if _, err := peer.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Fatal("the net.Conn is still open: ", err)
	}
	if n, err := Write(taken, []byte("hello")); n != 5 || err != nil {
		t.Fatal(n, err)
	}
	buf := make([]byte, 10)
	for {
		n, err := Read(fd, buf)
		if err == unix.EAGAIN {
			time.Sleep(time.Millisecond)
			continue
		}
		if string(buf[:n]) != "hello" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		break
	}
	local, err := LocalAddr(taken)
	if want := netip.MustParseAddrPort(peer.LocalAddr().String()); err != nil || local != want {
		t.Fatal(local, err)
	}
	if _, err := Take(notASocket{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
}

type notASocket struct{ net.Conn }

func TestWritevWritesInOrder(t *testing.T) {
	fd, peer := pair(t)
	defer Close(fd)
	n, err := Writev(fd, [][]byte{[]byte("one "), nil, []byte("two "), []byte("three")})
	if n != 13 || err != nil {
		t.Fatal(n, err)
	}
	got := make([]byte, 13)
	_ = peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := peer.Read(got); err != nil || !bytes.Equal(got, []byte("one two three")) {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestHazard18BindErrorIsReturned(t *testing.T) {
	fd, addr, err := ListenTCP("127.0.0.1:0", &Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer Close(fd)
	if _, _, err := ListenTCP(addr.String(), &Options{}); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	if _, _, err := ListenTCP("nonsense", &Options{}); err == nil {
		t.Fatal("no error for a bad address")
	}
}

func TestAcceptRetryable(t *testing.T) {
	for err, want := range map[error][2]bool{
		unix.EMFILE:       {true, true},
		unix.ENFILE:       {true, true},
		unix.ENOMEM:       {true, true},
		unix.ECONNABORTED: {true, false},
		unix.EPERM:        {true, false},
		unix.EBADF:        {false, false},
	} {
		if retry, busy := AcceptRetryable(err); retry != want[0] || busy != want[1] {
			t.Errorf("%v: %v %v", err, retry, busy)
		}
	}
}

func TestTableRefusesDescriptorsOutOfRange(t *testing.T) {
	table := new(Table)
	if err := table.set(-1, nil); err == nil {
		t.Error("took descriptor -1")
	}
	if err := table.set(tablePages*tablePageSize, nil); err == nil {
		t.Error("took a descriptor past the end")
	}
	c := new(Conn)
	if err := table.set(5000, c); err != nil || table.get(5000) != c || table.get(4999) != nil || table.get(1) != nil {
		t.Error(err)
	}
	table.clear(5000)
	table.clear(1 << 22) // a page that was never made
	if table.get(5000) != nil {
		t.Error("still there")
	}
}

func BenchmarkTrigger(b *testing.B) {
	l := run(b)
	task := func(any) error { return nil }
	b.ReportAllocs()
	for b.Loop() {
		_ = l.Trigger(task, nil)
	}
}
