package torture_test

import (
	"bytes"
	"net"
	"os"
	"strconv"
)

// descriptors counts this process's open descriptors, -1 if it can't.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return -1
	}
	return len(entries) - 1 // the directory's own
}

// residentBytes is how much memory this process has, -1 if it can't tell.
func residentBytes() int64 {
	b, err := os.ReadFile("/proc/self/statm")
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

// loopback is one of the machine's own addresses.
func loopback(i int) net.IP { return net.IPv4(127, 0, 0, byte(2+uint(i)%64)) }
