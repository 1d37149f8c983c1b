// Package e2e_test drives whole servers from outside: plain sockets, a foreign
// WebSocket client and a foreign QUIC client against one handler.
package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds what a test waits for; no test takes that long.
const patience = 60 * time.Second

// limitedArg as first argument makes the test's own binary run another program
// with fewer descriptors.
const limitedArg = "run-with-descriptor-limit"

// runLimited does that and doesn't return. Nil where no test asks for it.
var runLimited func(args []string)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == limitedArg && runLimited != nil {
		runLimited(os.Args[2:])
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		removeEcho()
		os.Exit(code)
	}))
}

// echoDir holds the built echo server; empty while no test has built it.
var echoDir string

func removeEcho() {
	if echoDir != "" {
		_ = os.RemoveAll(echoDir) // a left-over in the temporary directory harms nobody
	}
}

// echoBinary is cmd/echo, built once for all tests.
var echoBinary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-e2e-")
	if err != nil {
		return "", err
	}
	echoDir = dir
	path := filepath.Join(dir, "echo")
	if out, err := exec.Command("go", "build", "-o", path, "../../cmd/echo").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

// startProcess starts a program that prints the echo server's ready line, and
// kills it when the test ends. It returns the endpoints and what the program
// writes to stderr.
func startProcess(t *testing.T, path string, args ...string) (cmd *exec.Cmd, endpoints []string, log *lockedBuffer) {
	t.Helper()
	log = new(lockedBuffer)
	cmd = exec.Command(path, args...)
	cmd.Stderr = log
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) < 2 || fields[0] != "ready" {
		t.Fatalf("ready line %q, %v; stderr: %s", line, err, log.String())
	}
	return cmd, fields[1:], log
}

// hostPort is a URL's host:port.
func hostPort(url string) string {
	_, rest, _ := strings.Cut(url, "://")
	addr, _, _ := strings.Cut(rest, "/")
	return addr
}

// lockedBuffer is a buffer that one goroutine writes while another reads.
type lockedBuffer struct {
	mu  sync.Mutex // guards buf
	buf strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
