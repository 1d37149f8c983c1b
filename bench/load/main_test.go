package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/millrace/millrace/bench"
)

// echoServer returns the URL of a server that returns bytes as they are, or with
// their first one changed.
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
		stdout, stderr string // what they contain
	}{
		{"text", args(good), 0, "2 sessions x 3 in flight, 0-byte payload", ""},
		{"a bad server", args(bad), 1, "first failure: session", ""},
		{"an unknown flag", []string{"--speed", "11"}, 2, "", "speed"},
		{"an argument", []string{good}, 2, "", good},
		{"a bad value", []string{"--sessions", "-1"}, 2, "", "Sessions"},
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
	if code := run(context.Background(), args(good, "--json"), &stdout, &stderr); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr.String())
	}
	var result bench.Result
	if err := json.Unmarshal(stdout.Bytes(), &result); err != nil || result.URL != good || result.Messages == 0 || result.Size != 0 {
		t.Errorf("%+v, %v", result, err)
	}
}
