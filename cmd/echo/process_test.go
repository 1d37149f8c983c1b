package main

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaryDir holds the built program; empty while no test has built it.
var binaryDir string

func removeBinary() {
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir) // a left-over in the temporary directory harms nobody
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

// process starts the built program.
func process(t *testing.T, args ...string) (cmd *exec.Cmd, endpoints []string, stderr *logBuffer) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	stderr = new(logBuffer)
	cmd = exec.Command(path, args...)
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = cmd.Wait()
		return cmd, nil, stderr
	}
	return cmd, strings.Fields(line)[1:], stderr
}

// TestSignals checks that a signal lets the server answer what has arrived and
// exit with 0 within 5 s, with idle, busy and unreading peers connected.
func TestSignals(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			cmd, endpoints, stderr := process(t, "--addr", "127.0.0.1:0")
			if len(endpoints) == 0 {
				t.Fatalf("no ready line: %s", stderr.String())
			}
			dialRaw(t, endpoints)              // silent
			dialWebSocket(t, endpoints[2])     // idle
			unreading := dialRaw(t, endpoints) // sends much and reads nothing
			large := append(unhex(t, "01 00 01 00 00000001 0000 00080000 0000"), make([]byte, 512<<10)...)
			mustWrite(t, unreading, large)
			busy := dialRaw(t, endpoints)
			mustWrite(t, busy, unhex(t, ping))
			expect(t, busy, unhex(t, pong))

			begin := time.Now()
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("exit: %v; stderr: %s", err, stderr.String())
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
	cmd, endpoints, stderr := process(t, "--addr", "127.0.0.1:0")
	if len(endpoints) == 0 {
		t.Fatalf("no ready line: %s", stderr.String())
	}
	conn := dialRaw(t, endpoints)
	mustWrite(t, conn, bytes.Repeat(unhex(t, ping), count))
	expect(t, conn, unhex(t, pong)) // so they have arrived
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	expect(t, conn, bytes.Repeat(unhex(t, pong), count-1))
	if err := cmd.Wait(); err != nil {
		t.Errorf("exit: %v; stderr: %s", err, stderr.String())
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
		out, _ := cmd.CombinedOutput() // its exit code is what is checked
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%v: exit code %d, want %d; it printed: %s", c.args, got, c.code, out)
		}
	}
}
