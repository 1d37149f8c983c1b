package testkit

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strconv"
)

// Descriptors returns the number of a process's open descriptors, or -1 if it is
// unknown.
func Descriptors(pid int) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return -1
	}
	if pid == os.Getpid() {
		return len(entries) - 1 // without that of the directory itself
	}
	return len(entries)
}

// ResidentBytes returns the size in bytes of a process's resident memory, or -1 if
// it is unknown.
func ResidentBytes(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return -1
	}
	fields := bytes.Fields(b)
	if len(fields) < 2 {
		return -1
	}
	pages, err := strconv.ParseInt(string(fields[1]), 10, 64)
	if err != nil {
		return -1
	}
	return pages * int64(os.Getpagesize())
}

// Loopback returns one of the machine's own addresses, which i chooses.
func Loopback(i int) net.IP { return net.IPv4(127, 0, 0, byte(2+uint(i)%64)) }
