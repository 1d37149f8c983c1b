package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A contestant says how to start a server.
type contestant struct {
	name    string
	program string
	args    []string
	raw     bool // it returns the bytes as they are
}

// A server is a contestant's running process.
type server struct {
	contestant
	cmd *exec.Cmd
	url string
}

const (
	startTimeout = 10 * time.Second
	stopTimeout  = 6 * time.Second
)

// start starts c from dir on a port of its own and waits for its ready line.
func start(dir string, c contestant) (*server, error) {
	cmd := exec.Command(filepath.Join(dir, c.program), append([]string{"--addr", "127.0.0.1:0"}, c.args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{contestant: c, cmd: cmd}
	timeout := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() }) // it may have ended
	defer timeout.Stop()
	s.url, err = readyURL(out)
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// readyURL returns the tcp URL of the ready line that a server prints on out.
func readyURL(out io.Reader) (string, error) {
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("no ready line: %w", err)
	}
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "ready" || !strings.HasPrefix(fields[1], "tcp://") {
		return "", fmt.Errorf("not a ready line: %q", line)
	}
	return fields[1], nil
}

// stop ends the process, politely for a while.
func (s *server) stop() {
	timeout := time.AfterFunc(stopTimeout, func() { _ = s.cmd.Process.Kill() }) // it may have ended
	defer timeout.Stop()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		fmt.Fprintf(os.Stderr, "compare: %s: %v\n", s.name, err)
	}
	_ = s.cmd.Wait() // how it ends is no part of the comparison
}
