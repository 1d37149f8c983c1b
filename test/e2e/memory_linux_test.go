package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// The long version of TestMemoryLimit:
//
//	go test -count=1 -v -run TestMemoryLimit ./test/e2e -e2e.stalled=5000 -e2e.stalltime=2m
var (
	stalledFlag   = flag.Int("e2e.stalled", 1000, "peers of TestMemoryLimit that take the server's memory")
	stallTimeFlag = flag.Duration("e2e.stalltime", 2*time.Second, "how long they come back")
)

// TestMemoryLimit starts the echo server with a limit of 256 MiB. Sessions that are there
// before are served throughout and lose nothing, while many peers ask for large echoes and
// do not read them, or begin large messages, and come back when they are refused or closed. The memory of the
// process stays within 1.3 times the limit.
func TestMemoryLimit(t *testing.T) {
	const limit = 256 << 20
	echo, err := echoBinary()
	if err != nil {
		t.Fatal(err)
	}
	server := testkit.StartProcess(t, echo, "--addr", "127.0.0.1:0", "--memory-limit", "256MiB")
	addr := testkit.HostPort(server.Endpoints[0])
	empty := testkit.ResidentBytes(server.Process.Pid)

	ctx, cancel := context.WithTimeout(t.Context(), *stallTimeFlag)
	defer cancel()
	var asking, stalling sync.WaitGroup
	var answered, ended atomic.Int64
	for i := range 20 {
		p := dialers[i%2].dial(t, addr) // TCP and WebSocket
		asking.Go(func() {
			defer p.close()
			for id := uint32(1); ctx.Err() == nil; id++ {
				if err := p.ask(id, strings.Repeat("x", int(id%50)*100)); err != nil {
					t.Errorf("%s: request %d: %v", p.transport, id, err)
					return
				}
				answered.Add(1)
			}
		})
	}
	for i := range *stalledFlag {
		stalling.Go(func() {
			for ctx.Err() == nil {
				if stall(ctx, i, addr) == nil {
					ended.Add(1)
				}
			}
		})
	}
	most := int64(0)
	for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		most = max(most, testkit.ResidentBytes(server.Process.Pid))
	}
	asking.Wait()
	stalling.Wait()
	t.Logf("RSS %d MiB before, %d MiB at most; %d requests answered; %d connections were refused or closed",
		empty>>20, most>>20, answered.Load(), ended.Load())
	if most > limit*13/10 {
		t.Errorf("the server took %d MiB", most>>20)
	}
	if ended.Load() == 0 {
		t.Error("the limit was never reached")
	}
	testkit.Eventually(t, func() bool {
		p := dialTCP(t, addr)
		defer p.close()
		return p.ask(1, "and now?") == nil
	}, "a new peer is admitted")
}

// stall is one visit of a peer that reads nothing, until ctx ends. It asks for echoes of 64
// KiB over TCP or WebSocket, or sends the most of a message of 1 MiB and no more. It returns
// nil if the server ended the connection.
func stall(ctx context.Context, i int, addr string) error {
	c, err := testkit.DialFrom(i, addr)
	if err != nil {
		return fmt.Errorf("stalled peer: %w", err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetReadBuffer(4 << 10) // else the system keeps what the server should
	_ = c.SetWriteBuffer(4 << 10)
	_ = c.SetLinger(0)
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	switch i % 4 {
	case 0:
		if _, err = c.Write(hugeRequest[:700<<10]); err == nil {
			_, _ = io.Copy(io.Discard, c) // until the end
		}
	case 1:
		_, err = c.Write([]byte(upgradeRequest))
		for err == nil {
			_, err = c.Write(largeFrame)
		}
	default:
		for err == nil {
			_, err = c.Write(largeRequest)
		}
	}
	return ctx.Err()
}

var (
	largeRequest = requestOf(64 << 10)
	hugeRequest  = requestOf(1 << 20)
	largeFrame   = packWS(nil, largeRequest)
)

// requestOf returns a request with a payload of size bytes.
func requestOf(size int) []byte {
	b, err := framing.AppendPacket(nil, &framing.Message{Type: framing.Request, ID: 1, Payload: make([]byte, size)})
	if err != nil {
		panic(err)
	}
	return b
}
