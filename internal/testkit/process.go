package testkit

import (
	"bufio"
	"bytes"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Buffer is a bytes.Buffer that one goroutine may write while another reads.
type Buffer struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

// Write appends p.
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String returns a copy of all bytes written so far.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Process is a running program that printed a ready line, as cmd/echo does.
type Process struct {
	*exec.Cmd
	Endpoints []string // the URLs of the ready line
	Log       *Buffer  // the program's stderr
}

// StartProcess starts a program, waits for its ready line, and kills it when the
// test ends if the test has not waited for it. It fails the test if the program
// prints another line first, or none.
func StartProcess(t testing.TB, path string, args ...string) *Process {
	t.Helper()
	p := &Process{Cmd: exec.Command(path, args...), Log: new(Buffer)}
	p.Stderr = p.Log
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if p.ProcessState == nil {
			_ = p.Process.Kill() // it may have ended by itself
			_ = p.Wait()         // its status does not matter
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) < 2 || fields[0] != "ready" {
		t.Fatalf("ready line %q, %v; stderr: %s", line, err, p.Log)
	}
	p.Endpoints = fields[1:]
	return p
}
