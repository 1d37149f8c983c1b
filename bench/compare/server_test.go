package main

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

func TestReadyURL(t *testing.T) {
	tcp, root, echo := contestant{scheme: "tcp"}, contestant{scheme: "ws", path: "/"}, contestant{scheme: "ws", path: "/echo"}
	for _, c := range []struct {
		of         contestant
		line, want string
	}{
		{tcp, "ready tcp://127.0.0.1:5 ws://127.0.0.1:5/ws\n", "tcp://127.0.0.1:5"},
		{tcp, "ready tcp://127.0.0.1:5\n", "tcp://127.0.0.1:5"},
		{root, "ready ws://127.0.0.1:5/\n", "ws://127.0.0.1:5/"},
		{echo, "ready tcp://127.0.0.1:5 ws://127.0.0.1:5/ws ws://127.0.0.1:5/echo\n", "ws://127.0.0.1:5/echo"},
		{echo, "ready ws://127.0.0.1:5/ws\n", ""},
		{tcp, "ready\n", ""},
		{tcp, "ready ws://127.0.0.1:5/ws\n", ""},
		{tcp, "panic: tcp://\n", ""},
		{tcp, "", ""},
	} {
		got, err := readyURL(strings.NewReader(c.line), c.of)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v; want %q", c.line, got, err, c.want)
		}
	}
}

// script writes a server that is a shell script, and returns its folder.
func script(t *testing.T, lines string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "server"), []byte("#!/bin/sh\n"+lines), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestDeath checks that the error for a dead server has its name and the cause, both
// before it is ready and under load.
func TestDeath(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is no load here")
	}
	g := &group{name: "tcp", scenarios: []scenario{closed(1, 1)},
		contestants: []contestant{{name: "mortal", program: "server", scheme: "tcp"}}}
	set := settings{rounds: 1, duration: 50 * time.Millisecond, warmup: time.Millisecond}
	for _, c := range []struct{ lines, want string }{
		{"exit 3\n", "no ready line"},
		{"echo ready tcp://127.0.0.1:1\nexit 3\n", "exit status 3"},
	} {
		results, err := measure(context.Background(), g, script(t, c.lines), set, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "mortal") || !strings.Contains(err.Error(), c.want) || len(results) > 0 {
			t.Errorf("%q: %v, %v; want %q of mortal", c.lines, results, err, c.want)
		}
	}
}

// TestStop checks that stop waits for the end, and that died then returns it.
func TestStop(t *testing.T) {
	s, err := start(script(t, "echo ready tcp://127.0.0.1:1\nexec sleep 60\n"), contestant{name: "sleeper", program: "server", scheme: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	if err := s.died(); err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Error("it ended by", err)
	}
}
