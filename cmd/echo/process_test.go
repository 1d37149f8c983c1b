package main

import (
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/testkit"
)

// binaryDir holds the built program; empty while no test has built it.
var binaryDir string

func removeBinary() {
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir) // a file left in the temporary directory is harmless
	}
}

// binary is the built program, made once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "millrace-echo-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "echo")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// startProcess starts the built program, and waits for its ready line.
func startProcess(t *testing.T, args ...string) *testkit.Process {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return testkit.StartProcess(t, path, args...)
}

// TestSignals checks that the server answers the received messages after a signal and
// exits with 0 within 5 s, with idle, busy and unreading peers connected.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			server := startProcess(t, "--addr", "127.0.0.1:0")
			dialFirst(t, server.Endpoints)              // silent
			dialWebSocket(t, server.Endpoints[2])       // idle
			unreading := dialFirst(t, server.Endpoints) // sends much and reads nothing
			large := append(testkit.Unhex("01 00 01 00 00000001 0000 00080000 0000"), make([]byte, 512<<10)...)
			testkit.Write(t, unreading, large)
			busy := dialFirst(t, server.Endpoints)
			testkit.Write(t, busy, testkit.Unhex(ping))
			testkit.Expect(t, busy, testkit.Unhex(pong))

			begin := time.Now()
			if err := server.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := server.Wait(); err != nil {
				t.Errorf("exit: %v; stderr: %s", err, server.Log)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("took %v", took)
			}
			if n, err := busy.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Errorf("the connection goes on: %d, %v", n, err)
			}
		})
	}
}

// TestDrain checks that requests which arrived before the signal are answered.
func TestDrain(t *testing.T) {
	const count = 1000 // 20 KB: one read of the server takes them all
	server := startProcess(t, "--addr", "127.0.0.1:0")
	conn := dialFirst(t, server.Endpoints)
	testkit.Write(t, conn, bytes.Repeat(testkit.Unhex(ping), count))
	testkit.Expect(t, conn, testkit.Unhex(pong)) // so they have arrived
	if err := server.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	testkit.Expect(t, conn, bytes.Repeat(testkit.Unhex(pong), count-1))
	if err := server.Wait(); err != nil {
		t.Errorf("exit: %v; stderr: %s", err, server.Log)
	}
}

func TestExitCodes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, c := range []struct {
		args []string
		code int
	}{
		{[]string{"--addr", listener.Addr().String()}, 1},
		{[]string{"--cores", "none"}, 2},
		{[]string{"--help"}, 0},
	} {
		path, err := binary()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(path, c.args...)
		out, _ := cmd.CombinedOutput() // the test checks its exit code
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%v: exit code %d, want %d; it printed: %s", c.args, got, c.code, out)
		}
	}
}
