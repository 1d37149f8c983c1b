package main

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// TestFloor checks that bytes come back unchanged, on several connections of each
// loop, also if the peer reads late and the sockets fill up.
func TestFloor(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go serve(listener, 2) // its loops last as long as the process, as in main
	var running sync.WaitGroup
	for i := range 5 {
		running.Go(func() { echoMuch(t, listener.Addr().String(), i) })
	}
	running.Wait()
}

// echoMuch sends 16 MiB, more than the sockets' buffers hold, before it reads.
func echoMuch(t *testing.T, addr string, seed int) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	want := make([]byte, 16<<20)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(want)
	written := make(chan error, 1)
	go func() {
		_, err := conn.Write(want)
		written <- err
	}()
	time.Sleep(50 * time.Millisecond) // lets the buffers fill up
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil {
		t.Errorf("after %d bytes: %v", n, err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the bytes differ")
	}
}
