package main

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWrongReplyFails checks that a fleet, a receiver and a slow reader notice a
// wrong byte.
func TestWrongReplyFails(t *testing.T) {
	addr := spoilingServer(t)
	clients := newFleet("tcp", addr, nil)
	defer clients.close()
	if err := clients.open(1); err == nil || !strings.Contains(err.Error(), "want") {
		t.Errorf("the fleet says %v", err)
	}
	receiver, err := newReceiver(clients)
	if err != nil {
		t.Fatal(err)
	}
	defer receiver.close()
	delivered := receiver.expect(context.Background(), []byte("good"))
	if err := writeAll(clients.fds[0], []byte("bad!")); err != nil {
		t.Fatal(err)
	}
	if _, err := (<-delivered).result(); err == nil || !strings.Contains(err.Error(), "session 0: got") {
		t.Errorf("the receiver says %v", err)
	}
	slow, err := startSlowReaders(context.Background(), addr, 1)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); slow.failed() == nil && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if err := slow.stop(); err == nil || !strings.Contains(err.Error(), "want") {
		t.Errorf("the slow reader says %v", err)
	}
}

// spoilingServer returns all bytes with their bits flipped.
func spoilingServer(t *testing.T) netip.AddrPort {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	t.Cleanup(func() { listener.Close(); running.Wait() })
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					for i := range buf[:n] {
						buf[i] ^= 0xff
					}
					if _, err := conn.Write(buf[:n]); err != nil {
						return
					}
				}
			})
		}
	})
	return netip.MustParseAddrPort(listener.Addr().String())
}
