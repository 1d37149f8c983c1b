package torture_test

import (
	"net"
)

// loopback is one of the machine's own addresses.
func loopback(i int) net.IP { return net.IPv4(127, 0, 0, byte(2+uint(i)%64)) }
