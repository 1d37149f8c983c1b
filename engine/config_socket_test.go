package engine

import (
	"context"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/framing"
)

// sockets are the three kinds of descriptor that an engine has, of one address.
type sockets struct{ listening, accepted, dialed int }

// openSockets listens at addr with cfg, and dials itself.
func openSockets(t *testing.T, o SocketOptions, addr string) (s sockets, dialedFrom netip.AddrPort) {
	t.Helper()
	opened := make(chan *Session, 2)
	e := New(Config{Socket: o, Handler: HandlerFuncs{Open: func(s *Session) { opened <- s }}})
	t.Cleanup(func() { _ = e.Close() })
	l, err := e.Listen(addr, Packets())
	if err != nil {
		t.Fatal(err)
	}
	if l.Path() == "" {
		addr = l.Addr().String()
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err := e.Dial(ctx, addr, Packets()); err != nil {
		t.Fatal(err)
	}
	s.listening = l.conn.FD
	for range 2 {
		session := <-opened
		if session.Dialed() {
			s.dialed = session.conn.(*socketConn).sock.FD
		} else {
			s.accepted = session.conn.(*socketConn).sock.FD
			dialedFrom = session.RemoteAddr()
		}
	}
	return s, dialedFrom
}

func getInt(t *testing.T, fd, level, option int) int {
	t.Helper()
	n, err := unix.GetsockoptInt(fd, level, option)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// flag is a boolean option: some systems return another number than 1.
func flag(t *testing.T, fd, level, option int) bool {
	t.Helper()
	return getInt(t, fd, level, option) != 0
}

func lingers(t *testing.T, fd int) bool {
	t.Helper()
	l, err := unix.GetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER)
	if err != nil {
		t.Fatal(err)
	}
	if l.Linger != 0 {
		t.Errorf("lingers %d s", l.Linger)
	}
	return l.Onoff != 0
}

func TestSocketOptionsByDefault(t *testing.T) {
	s, _ := openSockets(t, SocketOptions{}, "127.0.0.1:0")
	for _, fd := range []int{s.accepted, s.dialed} {
		if !flag(t, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY) || lingers(t, fd) {
			t.Error("Nagle's algorithm, or a linger")
		}
	}
	if flag(t, s.accepted, unix.SOL_SOCKET, unix.SO_KEEPALIVE) || !flag(t, s.dialed, unix.SOL_SOCKET, unix.SO_KEEPALIVE) {
		t.Error("keepalive")
	}
	if flag(t, s.listening, unix.SOL_SOCKET, unix.SO_REUSEPORT) || !flag(t, s.listening, unix.SOL_SOCKET, unix.SO_REUSEADDR) {
		t.Error("reuse")
	}
}

func TestSocketOptionsAreSet(t *testing.T) {
	s, _ := openSockets(t, SocketOptions{Nagle: true, ReusePort: true, ResetOnClose: true,
		KeepAliveIdle: 41500 * time.Millisecond, KeepAliveInterval: 7 * time.Second, KeepAliveCount: 4,
		ReadBuffer: 50000, WriteBuffer: 60000}, "127.0.0.1:0")
	factor := 1
	if runtime.GOOS == "linux" {
		factor = 2 // socket(7): the kernel doubles the value
	}
	for name, fd := range map[string]int{"accepted": s.accepted, "dialed": s.dialed} {
		if flag(t, fd, unix.IPPROTO_TCP, unix.TCP_NODELAY) {
			t.Error(name, ": Nagle's algorithm is off")
		}
		if !lingers(t, fd) {
			t.Error(name, ": no reset on close")
		}
		if !flag(t, fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) {
			t.Error(name, ": no keepalive")
		}
		if runtime.GOOS == "linux" {
			if n := getInt(t, fd, unix.IPPROTO_TCP, 4 /* TCP_KEEPIDLE */); n != 42 {
				t.Error(name, ": idle ", n)
			}
		}
		if n := getInt(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL); n != 7 {
			t.Error(name, ": interval ", n)
		}
		if n := getInt(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT); n != 4 {
			t.Error(name, ": count ", n)
		}
		if n := getInt(t, fd, unix.SOL_SOCKET, unix.SO_RCVBUF); n != factor*50000 {
			t.Error(name, ": read buffer ", n)
		}
		if n := getInt(t, fd, unix.SOL_SOCKET, unix.SO_SNDBUF); n != factor*60000 {
			t.Error(name, ": write buffer ", n)
		}
	}
	if !flag(t, s.listening, unix.SOL_SOCKET, unix.SO_REUSEPORT) {
		t.Error("no reuse of the port")
	}
}

func TestSocketOptionsKeepAliveDefaultsAndOff(t *testing.T) {
	s, _ := openSockets(t, SocketOptions{KeepAliveIdle: time.Minute}, "127.0.0.1:0")
	for _, fd := range []int{s.accepted, s.dialed} {
		if getInt(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL) != 15 || getInt(t, fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT) != 9 {
			t.Error("another default")
		}
	}
	s, _ = openSockets(t, SocketOptions{KeepAliveIdle: -1}, "127.0.0.1:0")
	for _, fd := range []int{s.accepted, s.dialed} {
		if flag(t, fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE) {
			t.Error("keepalive is on")
		}
	}
}

func TestSocketOptionsOfUnixSockets(t *testing.T) {
	s, _ := openSockets(t, SocketOptions{ReadBuffer: 50000, WriteBuffer: 60000, Nagle: true, ReusePort: true,
		KeepAliveIdle: time.Second, ResetOnClose: true, LocalAddr: netip.MustParseAddrPort("127.0.0.1:0")},
		"unix:"+filepath.Join(t.TempDir(), "s"))
	factor := 1
	if runtime.GOOS == "linux" {
		factor = 2
	}
	for _, fd := range []int{s.listening, s.dialed} {
		if n := getInt(t, fd, unix.SOL_SOCKET, unix.SO_SNDBUF); n != factor*60000 {
			t.Error("write buffer ", n)
		}
	}
}

func TestReusePortLetsTwoBind(t *testing.T) {
	cfg := Config{Handler: HandlerFuncs{}, Socket: SocketOptions{ReusePort: true}}
	a, b := New(cfg), New(cfg)
	defer func() { _, _ = a.Close(), b.Close() }()
	l, err := a.Listen("127.0.0.1:0", Packets())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Listen(l.Addr().String(), Packets()); err != nil {
		t.Fatal(err)
	}
}

func TestDialFromALocalAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system has one loopback address")
	}
	_, from := openSockets(t, SocketOptions{LocalAddr: netip.MustParseAddrPort("127.0.0.9:0")}, "127.0.0.1:0")
	if from.Addr().String() != "127.0.0.9" {
		t.Error(from)
	}
}

// TestResetOnClose: the peer reads a reset instead of an end.
func TestResetOnClose(t *testing.T) {
	for _, reset := range []bool{false, true} {
		e := New(Config{Socket: SocketOptions{ResetOnClose: reset}, LingerTimeout: -1,
			Handler: HandlerFunc(func(s *Session, _ *framing.Message) { s.Abort(nil) })})
		l, err := e.Listen("127.0.0.1:0", Packets())
		if err == nil {
			err = e.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		b, _ := framing.Packet{}.Append(nil, &framing.Message{ID: 1})
		_, _ = c.Write(b)
		_, err = c.Read(make([]byte, 1))
		if got := strings.Contains(err.Error(), unix.ECONNRESET.Error()); got != reset {
			t.Errorf("ResetOnClose %v: %v", reset, err)
		}
		_ = c.Close()
		_ = e.Close()
	}
}

func TestSocketOptionsOutOfBounds(t *testing.T) {
	for field, o := range map[string]SocketOptions{
		"KeepAliveIdle":     {KeepAliveIdle: 10 * time.Hour},
		"KeepAliveInterval": {KeepAliveIdle: 1, KeepAliveInterval: -1},
		"need":              {KeepAliveInterval: time.Second},
		"KeepAliveCount":    {KeepAliveIdle: 1, KeepAliveCount: 128},
		"ReadBuffer":        {ReadBuffer: -1},
		"WriteBuffer":       {WriteBuffer: 1<<30 + 1},
		"Backlog":           {Backlog: 1 << 16},
	} {
		e := New(Config{Handler: HandlerFuncs{}, Socket: o})
		if _, err := e.Listen("127.0.0.1:0", Packets()); err == nil || !strings.Contains(err.Error(), "Config.Socket.") ||
			!strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
		_ = e.Close()
	}
}
