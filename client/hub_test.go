package client

import (
	"io"
	"net"
	"runtime"
	"testing"

	"github.com/millrace/millrace/internal/testkit"
)

// TestDialKeepsGOMAXPROCS checks that a process that only dials keeps its GOMAXPROCS.
// Its server is a plain socket that sends everything back, so that no other engine
// runs.
func TestDialKeepsGOMAXPROCS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	before := runtime.GOMAXPROCS(0)
	for _, limits := range []Limits{{}, {MaxEventBytes: 1 << 10}} {
		c := dialClient(t, "tcp://"+l.Addr().String(), WithLimits(limits))
		if err := c.Send([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		if m, err := c.Receive(testkit.Context(t)); err != nil || string(m.Payload) != "hello" {
			t.Errorf("got %+v, %v", m, err)
		}
		if n := runtime.GOMAXPROCS(0); n != before {
			t.Errorf("GOMAXPROCS is %d with a client, %d without", n, before)
		}
	}
}
