package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/internal/testkit"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeBinary()
		os.Exit(code)
	}))
}

// startEcho runs the server on a port of its own until the test ends, and
// returns the endpoints of its ready line. It must then exit with 0.
func startEcho(t *testing.T, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	var stderr testkit.Buffer
	exited := make(chan int, 1)
	go func() {
		code := run(ctx, append([]string{"--addr", "127.0.0.1:0"}, args...), w, &stderr)
		w.Close()
		exited <- code
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case code := <-exited:
			if code != exitServed {
				t.Errorf("exit code %d; stderr: %s", code, stderr.String())
			}
		case <-time.After(testkit.Patience):
			t.Error("the server doesn't end")
		}
	})
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("no ready line: %v; stderr: %s", err, stderr.String())
	}
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "ready" {
		t.Fatalf("ready line %q", line)
	}
	return fields[1:]
}

// dialFirst opens a plain socket to the first endpoint.
func dialFirst(t *testing.T, endpoints []string) net.Conn {
	t.Helper()
	return testkit.Dial(t, testkit.HostPort(endpoints[0]))
}
