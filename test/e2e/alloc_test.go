package e2e_test

import (
	"bytes"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// TestNoAllocations checks that the hot path (receive, dispatch, reply) doesn't allocate
// for a message. It counts in the whole process: the client only writes prepared bytes
// and compares the bytes that it reads.
func TestNoAllocations(t *testing.T) {
	if testkit.RaceEnabled {
		t.Skip("the race detector allocates on its own account")
	}
	const (
		batch   = 1000
		batches = 200
		// allowed is the number of other allocations in all: timers, and a pool
		// refilled after a garbage collection.
		allowed = batch * batches / 1000
	)
	for _, transport := range []string{"tcp", "ws"} {
		t.Run(transport, func(t *testing.T) {
			serve.EachDispatch(t, func(t *testing.T, dispatch engine.Dispatch) {
				_, addr := startEngine(t, engine.Config{Dispatch: dispatch, Cores: 1,
					Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) { s.Reply(m, m.Payload) })})
				conn, request, response := rawEcho(t, transport, addr)
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(testkit.Patience))
				requests, want := bytes.Repeat(request, batch), bytes.Repeat(response, batch)
				got := make([]byte, len(want))
				round := func() {
					if _, err := conn.Write(requests); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(conn, got); err != nil {
						t.Fatal(err)
					}
					if !bytes.Equal(got, want) {
						t.Fatal("wrong answers")
					}
				}
				for range 20 {
					round() // fills the pools
				}
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				for range batches {
					round()
				}
				runtime.ReadMemStats(&after)
				if n := after.Mallocs - before.Mallocs; n > allowed {
					t.Errorf("%d allocations for %d messages, at most %d are allowed", n, batch*batches, allowed)
				}
			})
		})
	}
}

// rawEcho connects and returns the bytes of a request and of its response.
func rawEcho(t *testing.T, transport, addr string) (conn net.Conn, request, response []byte) {
	t.Helper()
	request, response = testkit.Unhex(pingPacket), testkit.Unhex(pongPacket)
	if transport == "ws" {
		return upgrade(t, "ws://"+addr+"/ws"), packWS(nil, request), append([]byte{0x82, byte(len(response))}, response...)
	}
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn, request, response
}
