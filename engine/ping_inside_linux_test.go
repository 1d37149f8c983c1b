package engine

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/framing"
)

// TestPingsOfTCP: sessions of a protocol without a ping get TCP's probes.
func TestPingsOfTCP(t *testing.T) {
	opened := make(chan *Session, 1)
	e := New(Config{PingInterval: 7 * time.Second, PongTimeout: 6 * time.Second, Handler: HandlerFuncs{
		Open:    func(s *Session) { opened <- s },
		Message: func(*Session, *framing.Message) {},
	}})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", Packets())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Dial(t.Context(), l.Addr().String(), Packets()); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the dialed one too
		fd := (<-opened).conn.(*socketConn).sock.FD
		for _, o := range []struct{ level, option, want int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 7},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 2},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		} {
			if got, err := unix.GetsockoptInt(fd, o.level, o.option); err != nil || got != o.want {
				t.Errorf("option %d is %d, want %d, %v", o.option, got, o.want, err)
			}
		}
	}
}
