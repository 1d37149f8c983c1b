//go:build !linux

package torture_test

import "net"

// loopback is the one address that every system has.
func loopback(int) net.IP { return net.IPv4(127, 0, 0, 1) }
