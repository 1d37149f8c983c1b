package engine

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestBacklog reads a listening socket's backlog where the system keeps it: in
// the field that counts selective acknowledgements on other sockets.
func TestBacklog(t *testing.T) {
	for _, backlog := range []int{0, 7} {
		s, _ := openSockets(t, SocketOptions{Backlog: backlog}, "127.0.0.1:0")
		info, err := unix.GetsockoptTCPInfo(s.listening, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			t.Fatal(err)
		}
		if backlog == 0 && info.Sacked <= 7 || backlog > 0 && int(info.Sacked) != backlog {
			t.Errorf("backlog %d is %d", backlog, info.Sacked)
		}
	}
}
