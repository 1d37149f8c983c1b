// Package e2e_test drives whole servers from outside: plain sockets, a foreign
// WebSocket client and a foreign QUIC client against one handler.
package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// limitedArg as first argument makes the test's own binary run another program
// with fewer descriptors.
const limitedArg = "run-with-descriptor-limit"

// runLimited does that and doesn't return. It is nil if no test needs it.
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
		_ = os.RemoveAll(echoDir) // a file left in the temporary directory is harmless
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
