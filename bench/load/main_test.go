package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/bench"
)

// echoServer returns the URL of a server that returns bytes unchanged, or with the
// first byte changed.
func echoServer(t *testing.T, spoil bool) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if spoil {
					conn.Read(make([]byte, 1))
					conn.Write([]byte{0})
				}
				io.Copy(conn, conn)
			}()
		}
	}()
	return "tcp://" + listener.Addr().String()
}

func TestRun(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(bench.ErrUnsupported)
	}
	args := func(url string, more ...string) []string {
		return append([]string{"--url", url, "--raw", "--sessions", "2", "--inflight", "3", "--size", "0",
			"--duration", "50ms", "--warmup", "0"}, more...)
	}
	good, bad := echoServer(t, false), echoServer(t, true)
	for _, c := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string // expected parts of the output
	}{
		{"text", args(good), 0, "2 sessions x 3 in flight, 0-byte payload", ""},
		{"the client's CPU", args(good), 0, "the client took ", ""},
		{"a bad server", args(bad), 1, "first failure: session", ""},
		{"an unknown flag", []string{"--speed", "11"}, 2, "", "speed"},
		{"an argument", []string{good}, 2, "", good},
		{"a bad value", []string{"--sessions", "-1"}, 2, "", "Sessions"},
		{"bad sizes", []string{"--size", "1,x"}, 2, "", "size"},
		{"sizes", args(good, "--size", "1,2,300"), 0, "1-to-300-byte payload", ""},
		{"help", []string{"--help"}, 0, "", "-inflight"},
		{"no server", args("tcp://127.0.0.1:1"), 1, "", "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			if code := run(context.Background(), c.args, &stdout, &stderr); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
				t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
			}
		})
	}

	var stdout, stderr bytes.Buffer
	page := filepath.Join(t.TempDir(), "page.html")
	if code := run(context.Background(), args(good, "--json", "-", "--report", page), &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var result bench.Result
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil || result.URL != good || result.Messages == 0 || result.Size != 0 {
		t.Errorf("%+v, %v", result, err)
	}
	if html, err := os.ReadFile(page); err != nil || !bytes.Contains(html, []byte(good)) {
		t.Errorf("page: %v", err)
	}
	file := filepath.Join(t.TempDir(), "none", "page.html")
	if code := run(context.Background(), args(good, "--report", file), &stdout, &stderr); code != 1 {
		t.Errorf("a file that can't be written: exit code %d", code)
	}
}

// TestInterrupted checks that Ctrl-C, here the end of the context, prints the summary so far.
func TestInterrupted(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(bench.ErrUnsupported)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var stdout, stderr bytes.Buffer
	code := run(ctx, []string{"--url", echoServer(t, false), "--raw", "--warmup", "0", "--duration", "1h"}, &stdout, &stderr)
	if code != 0 || !strings.Contains(stdout.String(), "interrupted") || !strings.Contains(stdout.String(), "p99.9") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
}
