//go:build linux && !poll_opt

package reactor

import (
	"errors"
	"regexp"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/testkit"
)

// parkedStack is a goroutine in RunParked that sleeps in Go's poller.
var parkedStack = regexp.MustCompile(`goroutine \d+ [^\n]*\[IO wait[^\]]*\]:\n(\S.*\n\s.*\n)*\S*RunParked`)

// TestRunParked checks that a parked loop sleeps without a system call, and that every
// event and every task wakes it: more sockets than a poll returns, one after the other
// and all at once.
func TestRunParked(t *testing.T) {
	l, err := Open(new(Table))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.RunParked() }()
	const sockets = maxEvents + 50
	var read atomic.Int64 // bytes
	var peers []interface{ Write([]byte) (int, error) }
	for range sockets {
		fd, peer := pair(t)
		peers = append(peers, peer)
		c := &Conn{FD: fd, Handler: handler(func(Event) {
			var buf [64]byte
			n, _ := Read(fd, buf[:])
			read.Add(int64(max(n, 0)))
		})}
		on(t, l, func() {
			if err := l.Register(c); err != nil {
				t.Error(err)
			}
		})
		t.Cleanup(func() { Close(fd) })
	}
	stack := make([]byte, 1<<20)
	testkit.Eventually(t, func() bool { return parkedStack.Match(stack[:runtime.Stack(stack, true)]) }, "a parked loop")
	for i, peer := range peers {
		_, _ = peer.Write([]byte("x"))
		testkit.Eventually(t, func() bool { return read.Load() == int64(i+1) }, "an event")
	}
	wait := make(chan struct{})
	if err := l.Trigger(func(any) error { <-wait; return nil }, nil); err != nil {
		t.Fatal(err)
	}
	for _, peer := range peers {
		_, _ = peer.Write([]byte("x"))
	}
	close(wait)
	testkit.Eventually(t, func() bool { return read.Load() == 2*sockets }, "all events")
	for range 1000 {
		on(t, l, func() {})
	}
	if err := errors.Join(l.Stop(), <-done); err != nil {
		t.Error(err)
	}
	if err := l.Trigger(func(any) error { return nil }, nil); err == nil {
		t.Error("a task was triggered after the end")
	}
}

// TestRunParkedWithoutDescriptors runs a parked loop that gets no further descriptor.
func TestRunParkedWithoutDescriptors(t *testing.T) {
	l, err := Open(new(Table))
	if err != nil {
		t.Fatal(err)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- l.RunParked() }()
	ran := make(chan struct{})
	triggered := l.Trigger(func(any) error { close(ran); return nil }, nil)
	select {
	case <-ran:
	case err := <-done:
		t.Errorf("the loop has ended: %v", err)
		done <- nil
	}
	if err := errors.Join(triggered, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)); err != nil {
		t.Error(err)
	}
	_ = l.Stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
