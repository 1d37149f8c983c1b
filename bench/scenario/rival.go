package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// A rival is the running process of a program of bench/peers.
type rival struct {
	cmd  *exec.Cmd
	url  string
	stop func()
}

// rivalStopTimeout is the time in which a rival must end by itself.
const rivalStopTimeout = 6 * time.Second

// buildRivals builds the named programs of bench/peers into a folder that discard
// removes. It needs the go tool, and to be run inside the repository.
func buildRivals(ctx context.Context, names ...string) (dir string, discard func(), err error) {
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/millrace/millrace").Output()
	if err != nil {
		return "", nil, fmt.Errorf("the rivals are built from the repository; run this inside of it: %w", err)
	}
	dir, err = os.MkdirTemp("", "millrace-scenario-")
	if err != nil {
		return "", nil, err
	}
	discard = func() { os.RemoveAll(dir) }
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	for _, name := range names {
		args = append(args, "./"+name)
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = filepath.Join(strings.TrimSpace(string(out)), "bench", "peers")
	if text, err := cmd.CombinedOutput(); err != nil {
		discard()
		return "", nil, fmt.Errorf("go build of the rivals %v: %w\n%s", names, err, text)
	}
	return dir, discard, nil
}

// startRival starts a built program on a port of its own, and waits for its
// line "ready URL".
func startRival(dir, name string) (*rival, error) {
	cmd := exec.Command(filepath.Join(dir, name), "--addr", "127.0.0.1:0")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	r := &rival{cmd: cmd}
	r.stop = sync.OnceFunc(func() {
		killer := time.AfterFunc(rivalStopTimeout, func() { _ = cmd.Process.Kill() })
		defer killer.Stop()
		_ = cmd.Process.Signal(os.Interrupt) // it may have ended
		_ = cmd.Wait()                       // the exit code of a rival is not part of a scenario
	})
	late := time.AfterFunc(startTimeout, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(line)
	if err == nil && (len(fields) < 2 || fields[0] != "ready") {
		err = errors.New("not a ready line")
	}
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("rival %s said %q: %w", name, line, err)
	}
	r.url = fields[1]
	return r, nil
}
