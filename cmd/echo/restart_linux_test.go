package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/client"
	"github.com/millrace/millrace/internal/testkit"
)

// lineage is a running server and the successors that it has had.
type lineage struct {
	t     *testing.T
	path  string // of the program, a copy that a test may replace
	log   string // file for the stderr of all processes
	ready chan []string
	pids  []int
}

// found starts the program with args, and env in front of the environment's.
func found(t *testing.T, files []*os.File, args ...string) *lineage {
	t.Helper()
	built, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	// The children of an ended process become children of this one, which waits for them.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	l := &lineage{t: t, path: filepath.Join(dir, "echo"), log: filepath.Join(dir, "log"), ready: make(chan []string, 64)}
	copyFile(t, built, l.path)
	stderr, err := os.Create(l.log)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(l.path, args...)
	if len(files) > 0 { // only the process itself can set its process ID
		cmd = exec.Command("/bin/sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, l.path}, args...)...)
		cmd.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(files)))
	}
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = w, stderr, files
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	stderr.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		for s := bufio.NewScanner(r); s.Scan(); {
			l.ready <- strings.Fields(s.Text())[1:]
		}
	}()
	l.pids = []int{cmd.Process.Pid}
	t.Cleanup(func() {
		for _, pid := range l.pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			_, _ = syscall.Wait4(pid, nil, 0, nil)
		}
		<-read // every writer is gone
		r.Close()
	})
	return l
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		_ = os.Remove(to) // a running program can't be written to, but replaced
		err = os.WriteFile(to, b, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lineage) endpoints() []string {
	l.t.Helper()
	select {
	case e := <-l.ready:
		return e
	case <-time.After(testkit.Patience):
		l.t.Fatalf("no ready line; the log: %s", l.logged())
		return nil
	}
}

func (l *lineage) logged() string {
	b, _ := os.ReadFile(l.log)
	return string(b)
}

var successorPID = regexp.MustCompile(`the successor serves" pid=(\d+)`)

// restart makes the newest process start its successor, and waits for that.
func (l *lineage) restart() {
	l.t.Helper()
	l.signal(syscall.SIGUSR2)
	l.await("a successor", func() bool {
		found := successorPID.FindAllStringSubmatch(l.logged(), -1)
		if len(found) < len(l.pids) {
			return false
		}
		pid, _ := strconv.Atoi(found[len(found)-1][1])
		l.pids = append(l.pids, pid)
		return true
	})
}

func (l *lineage) signal(sig syscall.Signal) {
	l.t.Helper()
	if err := syscall.Kill(l.pids[len(l.pids)-1], sig); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lineage) await(what string, done func() bool) {
	l.t.Helper()
	if !testkit.Poll(testkit.Patience, done) {
		l.t.Fatalf("no %s; the log: %s", what, l.logged())
	}
}

// ended waits until the oldest process has exited, with 0 if its exit code is available.
func (l *lineage) ended() {
	l.t.Helper()
	pid := l.pids[0]
	l.pids = l.pids[1:]
	var status syscall.WaitStatus
	l.await("end of "+strconv.Itoa(pid), func() bool {
		got, err := syscall.Wait4(pid, &status, syscall.WNOHANG, nil)
		if err == syscall.ECHILD { // its predecessor is still there, and waits for it
			return syscall.Kill(pid, 0) == syscall.ESRCH
		}
		return err == nil && got == pid
	})
	if status.ExitStatus() != exitServed {
		l.t.Errorf("process %d: status %v; the log: %s", pid, status, l.logged())
	}
}

// load connects again and again until stopped, and counts.
type load struct {
	network, addr string
	request, want []byte
	stopped       atomic.Bool
	answered      atomic.Int64
	failures      chan error
	work          sync.WaitGroup
}

func startLoad(t *testing.T, network, addr string) *load {
	l := &load{network: network, addr: addr, request: testkit.Unhex(ping), want: testkit.Unhex(pong), failures: make(chan error, 64)}
	for range 6 {
		l.work.Go(func() {
			for !l.stopped.Load() {
				if err := l.once(); err != nil {
					select {
					case l.failures <- err:
					default:
					}
				}
				time.Sleep(time.Millisecond) // the load's pace
			}
		})
	}
	l.work.Go(l.stay)
	return l
}

// once is one connection with one request, which must be answered.
func (l *load) once() error {
	conn, err := net.DialTimeout(l.network, l.addr, testkit.Patience)
	if err != nil {
		return fmt.Errorf("refused: %w", err)
	}
	defer conn.Close()
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // no TIME_WAIT: ports are few
	}
	if err := l.ask(conn); err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	return nil
}

func (l *load) ask(conn net.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := conn.Write(l.request); err != nil {
		return err
	}
	got := make([]byte, len(l.want))
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if string(got) != string(l.want) {
		return fmt.Errorf("a wrong answer: %x", got)
	}
	l.answered.Add(1)
	return nil
}

// stay keeps asking on one connection until the old process cuts it, which must
// be after an answer.
func (l *load) stay() {
	for !l.stopped.Load() {
		conn, err := net.DialTimeout(l.network, l.addr, testkit.Patience)
		answers := 0
		for ; err == nil && !l.stopped.Load(); time.Sleep(10 * time.Millisecond) { // its pace
			if err = l.ask(conn); err == nil {
				answers++
			}
		}
		if answers == 0 && err != nil {
			l.failures <- fmt.Errorf("a long conversation: %w", err)
		}
		if conn != nil {
			conn.Close()
		}
	}
}

func (l *load) stop(t *testing.T) {
	t.Helper()
	l.stopped.Store(true)
	l.work.Wait()
	close(l.failures)
	for err := range l.failures {
		t.Error(err)
	}
	t.Logf("%d requests answered", l.answered.Load())
	if l.answered.Load() == 0 {
		t.Error("no load")
	}
}

// TestRestartRefusesNobody restarts ten times under load, and no connection is refused.
func TestRestartRefusesNobody(t *testing.T) {
	l := found(t, nil, "--addr", "127.0.0.1:0", "--drain-timeout", "1s")
	endpoints := l.endpoints()
	load := startLoad(t, "tcp", testkit.HostPort(endpoints[0]))
	for range 10 {
		l.restart()
		if got := l.endpoints(); strings.Join(got, " ") != strings.Join(endpoints, " ") {
			t.Errorf("endpoints %v, before %v", got, endpoints)
		}
	}
	load.stop(t)
	for range 10 {
		l.ended()
	}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	c, err := client.Dial(ctx, endpoints[len(endpoints)-1], client.WithTLS(&tls.Config{InsecureSkipVerify: true}))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Request(ctx, []byte("over QUIC")); err != nil || string(got) != "over QUIC" {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.Close()
	l.signal(syscall.SIGTERM)
	l.ended()
}

// TestHazard17RestartKeepsTheSocketFile: the file stays while a process serves it, and the
// last one removes it.
func TestHazard17RestartKeepsTheSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := found(t, nil, "--addr", "unix:"+path)
	if got := l.endpoints(); len(got) != 1 || got[0] != "unix:"+path {
		t.Fatal(got)
	}
	load := startLoad(t, "unix", path)
	for range 3 {
		l.restart()
		l.endpoints()
	}
	load.stop(t)
	for range 3 {
		l.ended()
	}
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
	l.signal(syscall.SIGTERM)
	l.ended()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("left behind: ", err)
	}
}

// TestRestartThatFails: a successor that never serves changes nothing.
func TestRestartThatFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l := found(t, nil, "--addr", "unix:"+path)
	l.endpoints()
	_ = os.Remove(l.path)
	if err := os.WriteFile(l.path, []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	l.signal(syscall.SIGUSR2)
	l.await("complaint", func() bool { return strings.Contains(l.logged(), "restart failed, this process goes on") })
	load := startLoad(t, "unix", path)
	built, _ := binary()
	copyFile(t, built, l.path)
	l.restart()
	l.endpoints()
	load.stop(t)
	l.ended()
	l.signal(syscall.SIGTERM)
	l.ended()
}

// TestSystemdActivation serves a socket that another process has opened.
func TestSystemdActivation(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	l := found(t, []*os.File{file}, "--addr", "192.0.2.1:1") // not this machine's
	if got := l.endpoints(); testkit.HostPort(got[0]) != listener.Addr().String() || len(got) != 4 {
		t.Fatal(got)
	}
	load := startLoad(t, "tcp", listener.Addr().String())
	l.restart()
	l.endpoints()
	load.stop(t)
	l.ended()
	l.signal(syscall.SIGTERM)
	l.ended()
}
