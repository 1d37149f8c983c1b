package main

import (
	"os"
	"testing"
	"time"
)

// TestUsage burns some time, makes some calls and waits some times, and sees
// each in this process's figures.
func TestUsage(t *testing.T) {
	before, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for begin := time.Now(); time.Since(begin) < 20*time.Millisecond; {
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	for range 50 {
		w.Write([]byte{1})
		r.Read(make([]byte, 1))
		time.Sleep(200 * time.Microsecond)
	}
	after, err := usageOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if after.cpu <= before.cpu {
		t.Errorf("CPU time went from %v to %v", before.cpu, after.cpu)
	}
	if after.callsKnown && after.calls-before.calls < 100 {
		t.Errorf("%d calls, of at least 100", after.calls-before.calls)
	}
	if !after.switchesKnown || after.switches <= before.switches {
		t.Errorf("switches went from %d to %d", before.switches, after.switches)
	}
	if _, err := usageOf(1 << 28); err == nil {
		t.Error("no error for a process that doesn't exist")
	}
}

func TestStatusField(t *testing.T) {
	file := []byte("rchar: 1\nsyscr: 22\nnonvoluntary_ctxt_switches:\t3\nbad: x\n")
	if n, ok := statusField(file, "syscr"); n != 22 || !ok {
		t.Errorf("%d, %v", n, ok)
	}
	for _, name := range []string{"voluntary_ctxt_switches", "sys", "bad", ""} {
		if n, ok := statusField(file, name); ok {
			t.Errorf("%q is %d", name, n)
		}
	}
}
