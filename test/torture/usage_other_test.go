//go:build !linux

package torture_test

import "net"

// descriptors is not known here.
func descriptors() int { return -1 }

// residentBytes is not known here.
func residentBytes() int64 { return -1 }

// loopback is the one address that every system has.
func loopback(int) net.IP { return net.IPv4(127, 0, 0, 1) }
