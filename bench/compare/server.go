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

// A server is a contestant's running process.
type server struct {
	contestant
	cmd *exec.Cmd
	url string

	exited chan struct{} // closed when the process has ended
}

const (
	startTimeout = 10 * time.Second
	stopTimeout  = 6 * time.Second
	diedTimeout  = 500 * time.Millisecond
)

var errEnded = errors.New("its process has ended")

// start starts c, from dir if its program isn't an absolute path, on a port of its own and waits for its ready line.
func start(dir string, c contestant) (*server, error) {
	path := c.program
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	cmd := exec.Command(path, append([]string{"--addr", "127.0.0.1:0"}, c.args...)...)
	// A process group of its own: an interrupt from the terminal ends this
	// program, which then ends its servers.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{contestant: c, cmd: cmd, exited: make(chan struct{})}
	timeout := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() }) // it may have ended
	s.url, err = readyURL(out, c)
	timeout.Stop()
	go func() {
		_ = cmd.Wait() // ProcessState has the result
		close(s.exited)
	}()
	if err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// readyURL returns c's URL from the ready line that its server prints on out.
func readyURL(out io.Reader, c contestant) (string, error) {
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("no ready line: %w", err)
	}
	fields := strings.Fields(line)
	if len(fields) < 2 || fields[0] != "ready" {
		return "", fmt.Errorf("not a ready line: %q", line)
	}
	for _, url := range fields[1:] {
		rest, ok := strings.CutPrefix(url, c.scheme+"://")
		if !ok {
			continue
		}
		if i := strings.IndexByte(rest, '/'); i < 0 && c.path == "" || i >= 0 && rest[i:] == c.path {
			return url, nil
		}
	}
	return "", fmt.Errorf("no %s://...%s in its ready line: %q", c.scheme, c.path, line)
}

// died describes how the process ended, if it has. If its connection broke first, died
// gives the process a moment to exit.
func (s *server) died() error {
	select {
	case <-s.exited:
		return fmt.Errorf("%w: %s", errEnded, s.cmd.ProcessState)
	case <-time.After(diedTimeout):
		return nil
	}
}

// stop ends the process with a signal, and kills it if it takes too long.
func (s *server) stop() {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		fmt.Fprintf(os.Stderr, "compare: %s: %v\n", s.name, err)
	}
	select {
	case <-s.exited: // its exit code is not part of the comparison
	case <-time.After(stopTimeout):
		_ = s.cmd.Process.Kill() // it may have ended
		<-s.exited
	}
}
