package engine_test

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

// TestHazard08OneRetryAtATime connects many times while the process has no
// descriptor left. Each connection is an event, and each event a failed accept,
// but the listener asks again by one timer only, whose pauses grow to a second.
func TestHazard08OneRetryAtATime(t *testing.T) {
	const clients = 40
	e, addr := serve(t, engine.Config{Handler: echo, Cores: 1})
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	fds := make([]int, clients)
	for i := range fds { // before there are none left
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Close(fd) }()
		fds[i] = fd
	}
	lowered := limit
	lowered.Cur = 3 // all of these are taken
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lowered); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	for i, fd := range fds {
		if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "a failed accept for each", func() bool { return e.Stats().AcceptErrors > uint64(i) })
	}
	before := e.Stats().AcceptErrors
	time.Sleep(2500 * time.Millisecond) // long enough for every timer to fire twice
	// One timer fires eight times until its pause is a second, and then each second.
	if n := e.Stats().AcceptErrors - before; n > 12 {
		t.Errorf("%d more accepts failed without another connection", n)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all to be accepted", func() bool { return e.Stats().Accepted == clients })
}
