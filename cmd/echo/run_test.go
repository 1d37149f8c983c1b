package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/testkit"
)

func TestReadyLine(t *testing.T) {
	const addr = `127\.0\.0\.1:(\d+)`
	for _, c := range []struct {
		args string
		want string
	}{
		{"", "^tcp://" + addr + " ws://" + addr + "/ws ws://" + addr + "/echo quic://" + addr + "$"},
		{"--quic=false --cores 1 --log-level error", "^tcp://" + addr + " ws://" + addr + "/ws ws://" + addr + "/echo$"},
		{"--framing raw", "^tcp://" + addr + " quic://" + addr + "$"},
		{"--framing line --quic=false --dispatch inline", "^tcp://" + addr + "$"},
	} {
		t.Run(c.args, func(t *testing.T) {
			got := strings.Join(startEcho(t, strings.Fields(c.args)...), " ")
			ports := regexp.MustCompile(c.want).FindStringSubmatch(got)
			if ports == nil {
				t.Fatalf("got %q, want %s", got, c.want)
			}
			for _, port := range ports[1:] {
				if port != ports[1] || port == "0" {
					t.Errorf("ports differ or are 0: %v", ports[1:])
				}
			}
		})
	}
}

// TestMisuse checks that each mistake gets one line that names its flag, and
// exit code 2.
func TestMisuse(t *testing.T) {
	for _, c := range []struct{ args, names string }{
		{"--addr nonsense", "--addr"},
		{"--addr 127.0.0.1", "--addr"},
		{"--addr 127.0.0.1:http-ish", "--addr"},
		{"--addr 127.0.0.1:65536", "--addr"},
		{"--addr 192.0.2.1:0", "--addr"}, // TEST-NET-1, never assigned
		{"--addr unix:", "--addr"},
		{"--drain-timeout soon", "--drain-timeout"},
		{"--drain-timeout -1s", "--drain-timeout"},
		{"--framing morse", "--framing"},
		{"--dispatch later", "--dispatch"},
		{"--cores 0", "--cores"},
		{"--cores 257", "--cores"},
		{"--cores many", "--cores"},
		{"--cores", "--cores"},
		{"--memory-limit 256", "--memory-limit"},
		{"--memory-limit 0MiB", "--memory-limit"},
		{"--memory-limit 9999999999TiB", "--memory-limit"},
		{"--memory-limit 1KiB", "--memory-limit"},
		{"--quic=perhaps", "--quic"},
		{"--log-level loud", "--log-level"},
		{"--speed 11", "--speed"},
		{"127.0.0.1:8001", "127.0.0.1:8001"},
	} {
		t.Run(c.args, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(context.Background(), strings.Fields(c.args), &stdout, &stderr)
			if code != exitMisused {
				t.Errorf("exit code %d, want %d", code, exitMisused)
			}
			checkOneLine(t, stderr.String(), c.names)
			if stdout.Len() > 0 {
				t.Errorf("stdout: %q", stdout.String())
			}
		})
	}
}

// TestBusyPort takes the port for TCP, and then only for UDP, whose failure may
// come with a line of log about the development certificate.
func TestBusyPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	for _, addr := range []string{listener.Addr().String(), packets.LocalAddr().String()} {
		var stdout, stderr bytes.Buffer
		if code := run(context.Background(), []string{"--addr", addr}, &stdout, &stderr); code != exitFailed {
			t.Errorf("exit code %d, want %d", code, exitFailed)
		}
		checkOneLine(t, regexp.MustCompile(`(?m)^time=.* level=WARN .*\n`).ReplaceAllString(stderr.String(), ""), addr)
		if !strings.Contains(stderr.String(), "address already in use") {
			t.Errorf("stderr doesn't say why: %q", stderr.String())
		}
		if stdout.Len() > 0 {
			t.Errorf("stdout: %q", stdout.String())
		}
	}
}

// TestUnwritableStdout: without its ready line the server is of no use, so it exits.
func TestUnwritableStdout(t *testing.T) {
	var stderr testkit.Buffer
	if code := run(context.Background(), []string{"--addr", "127.0.0.1:0"}, brokenWriter{}, &stderr); code != exitFailed {
		t.Errorf("exit code %d, want %d", code, exitFailed)
	}
	if !strings.Contains(stderr.String(), "broken") {
		t.Errorf("stderr: %q", stderr.String())
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), []string{"--help"}, &stdout, &stderr); code != exitServed {
		t.Errorf("exit code %d", code)
	}
	for _, name := range []string{"addr", "framing", "dispatch", "cores", "quic", "log-level", "drain-timeout"} {
		if !strings.Contains(stdout.String(), "-"+name) {
			t.Errorf("--help doesn't describe --%s", name)
		}
	}
}

// TestLogLevel checks that the flag has an effect: only level debug logs each session.
func TestLogLevel(t *testing.T) {
	for level, told := range map[string]bool{"debug": true, "info": false} {
		ctx, cancel := context.WithCancel(context.Background())
		ready := make(chan string, 1)
		exited := make(chan int, 1)
		var stderr testkit.Buffer
		go func() {
			exited <- run(ctx, []string{"--addr", "127.0.0.1:0", "--log-level", level}, lineWriter(ready), &stderr)
		}()
		conn := dialFirst(t, strings.Fields(<-ready)[1:])
		testkit.Write(t, conn, testkit.Unhex(ping))
		testkit.Expect(t, conn, testkit.Unhex(pong))
		conn.Close()
		cancel()
		if code := <-exited; code != exitServed {
			t.Errorf("exit code %d", code)
		}
		if got := strings.Contains(stderr.String(), "session ended"); got != told {
			t.Errorf("--log-level %s: logged the session: %v; stderr: %s", level, got, stderr.String())
		}
	}
}

// lineWriter sends the first bytes written to it, once.
type lineWriter chan<- string

func (w lineWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

func checkOneLine(t *testing.T, got, names string) {
	t.Helper()
	if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Errorf("stderr is not one line: %q", got)
	}
	if !strings.Contains(got, names) {
		t.Errorf("stderr %q doesn't name %s", got, names)
	}
}
