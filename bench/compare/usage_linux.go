package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// usageOf returns the usage of process pid so far.
func usageOf(pid int) (usage, error) {
	cpu, err := cpuTime(pid)
	if err != nil {
		return usage{}, err
	}
	u := usage{cpu: cpu}
	dir := fmt.Sprintf("/proc/%d", pid)
	io, err := os.ReadFile(dir + "/io")
	if err == nil { // some containers refuse it
		reads, okReads := statusField(io, "syscr")
		writes, okWrites := statusField(io, "syscw")
		u.calls, u.callsKnown = reads+writes, okReads && okWrites
	}
	// The process's own status counts its first thread only.
	threads, err := filepath.Glob(dir + "/task/*/status")
	if err != nil {
		return u, err
	}
	for _, thread := range threads {
		status, err := os.ReadFile(thread)
		if err != nil {
			continue // the thread has ended
		}
		n, ok := statusField(status, "voluntary_ctxt_switches")
		u.switches += n
		u.switchesKnown = u.switchesKnown || ok
	}
	return u, nil
}

// cpuTime returns the CPU time that process pid has used so far, in user and
// kernel mode, threads that have ended included. It reads the process's own
// clock, which counts nanoseconds. clock_getcpuclockid(3) computes its number in this way.
func cpuTime(pid int) (time.Duration, error) {
	const cpuClockSched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|cpuClockSched, &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// statusField returns the number on the line "name: number" of a file of /proc.
func statusField(file []byte, name string) (int64, bool) {
	for line := range bytes.Lines(file) {
		field, value, ok := bytes.Cut(line, []byte(":"))
		if ok && string(field) == name {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}
