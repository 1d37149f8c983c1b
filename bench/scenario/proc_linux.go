package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A footprint is the memory of a process, in bytes.
type footprint struct {
	RSS  int64 `json:"rss"`  // resident pages, those of the program's file included
	PSS  int64 `json:"pss"`  // the same, but of a page that n processes share a part in n
	Anon int64 `json:"anon"` // of RSS, the pages that no file backs
	Peak int64 `json:"peak"` // the most that RSS ever was
}

// processMemory reads the footprint of process pid.
func processMemory(pid int) (f footprint, err error) {
	fields, err := kilobytes(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return f, err
	}
	shares, err := kilobytes(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return f, err
	}
	return footprint{RSS: fields["VmRSS"], PSS: shares["Pss"], Anon: fields["RssAnon"], Peak: fields["VmHWM"]}, nil
}

// availableMemory is the memory that new work can use without swapping, in bytes.
func availableMemory() (int64, error) {
	fields, err := kilobytes("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	return fields["MemAvailable"], nil
}

// kilobytes reads the lines "name: number kB" of a file, as bytes.
func kilobytes(file string) (map[string]int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	fields := map[string]int64{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(line, ":")
		number, isKB := strings.CutSuffix(strings.TrimSpace(value), " kB")
		if n, err := strconv.ParseInt(number, 10, 64); isKB && err == nil {
			fields[name] = n << 10
		}
	}
	return fields, nil
}

// cpuTime is the CPU time that process pid has used so far, in user and kernel
// mode, by its own clock; clock_getcpuclockid(3) computes that clock's number in this way.
func cpuTime(pid int) (time.Duration, error) {
	const cpuClockSched = 2
	var t unix.Timespec
	if err := unix.ClockGettime(int32(^pid)<<3|cpuClockSched, &t); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// kernelLimits are the kernel's limits for sockets and processes.
type kernelLimits struct {
	descriptors  int // a process may open
	filesFree    int // that the system may still open
	ports        int // ephemeral, for each pair of addresses
	processRoom  int // threads that may still be made
	listenLength int // connections that wait to be accepted
}

func readKernelLimits() (l kernelLimits, err error) {
	var own unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &own); err != nil {
		return l, err
	}
	l.descriptors = int(min(own.Cur, own.Max))
	var opened, unusedFiles, mostFiles, lowest, highest, mostThreads, mostPIDs int
	for _, f := range []struct {
		file   string
		values []any
	}{
		{"/proc/sys/fs/file-nr", []any{&opened, &unusedFiles, &mostFiles}},
		{"/proc/sys/net/ipv4/ip_local_port_range", []any{&lowest, &highest}},
		{"/proc/sys/kernel/threads-max", []any{&mostThreads}},
		{"/proc/sys/kernel/pid_max", []any{&mostPIDs}},
		{"/proc/sys/net/core/somaxconn", []any{&l.listenLength}},
	} {
		b, err := os.ReadFile(f.file)
		if err != nil {
			return l, err
		}
		if _, err := fmt.Sscan(string(b), f.values...); err != nil {
			return l, fmt.Errorf("%s: %w", f.file, err)
		}
	}
	var now unix.Sysinfo_t
	if err := unix.Sysinfo(&now); err != nil {
		return l, err
	}
	l.filesFree = mostFiles - opened
	l.ports = highest - lowest + 1
	l.processRoom = min(mostThreads, mostPIDs) - int(now.Procs)
	return l, nil
}
