package engine_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// adopt gives l's socket to a new engine, as a child process would take it.
func adopt(t *testing.T, l *engine.Listener, protocols ...engine.Protocol) (*engine.Engine, *engine.Listener) {
	t.Helper()
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	e := engine.New(engine.Config{Handler: echo, LingerTimeout: 100 * time.Millisecond})
	t.Cleanup(func() { _ = e.Close() })
	if len(protocols) == 0 {
		protocols = []engine.Protocol{engine.Packets()}
	}
	adopted, err := e.Adopt(file, protocols...)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e, adopted
}

func ask(t *testing.T, c net.Conn) {
	t.Helper()
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

// TestAdoptedListener passes a listener to another engine, and checks that the first one
// gets no more events of it and does not break its descriptor.
func TestAdoptedListener(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		e1, l1 := serveAt(t, engine.Config{Handler: echo, Dispatch: d, Cores: 2}, "127.0.0.1:0")
		old := dial(t, l1.Addr().String())
		ask(t, old)
		e2, l2 := adopt(t, l1)
		if l2.Addr() != l1.Addr() || l2.String() != l1.String() {
			t.Errorf("%v, before %v", l2, l1)
		}
		select {
		case <-l1.Done():
			t.Error("done before it is closed")
		default:
		}
		l1.Close()
		<-l1.Done()
		accepted := e1.Stats().Accepted
		// The first engine uses the listener's descriptor number again, while
		// events still come to the socket that had it.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		for range 20 {
			s, err := e1.Dial(ctx, l2.Addr().String(), engine.Packets())
			if err != nil {
				t.Fatal(err)
			}
			ask(t, dial(t, l2.Addr().String()))
			if s.Err() != nil {
				t.Fatal(s.Err())
			}
		}
		if n := e1.Stats().Accepted; n != accepted {
			t.Errorf("%d accepted by the engine that gave it away", n-accepted)
		}
		if n := e2.Stats().Accepted; n != 40 {
			t.Errorf("%d accepted", n)
		}
		ask(t, old)
		if _, err := l1.File(); !errors.Is(err, engine.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestHazard17HandedOverSocketFile: the file goes with the last owner.
func TestHazard17HandedOverSocketFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	e1, l1 := serveAt(t, engine.Config{Handler: echo}, "unix:"+path)
	e2, l2 := adopt(t, l1)
	if l2.Path() != path || l2.Addr().IsValid() {
		t.Error(l2)
	}
	if err := l1.SetUnlinkOnClose(false); err != nil {
		t.Fatal(err)
	}
	if err := l2.SetUnlinkOnClose(true); err != nil {
		t.Fatal(err)
	}
	_ = e1.Close()
	ask(t, dialUnix(t, path))
	for s := range e2.Sessions() {
		if s.Transport() != "unix" {
			t.Error(s.Transport())
		}
	}
	_ = e2.Close()
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("left behind: ", err)
	}
	if err := l2.SetUnlinkOnClose(true); err == nil {
		t.Error("there is nothing to unlink")
	}
}

// TestAdoptedSocketFileStays: an engine must not remove a socket file that it did not make.
func TestAdoptedSocketFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Config{Handler: echo})
	if _, err := e.Adopt(file, engine.Packets()); err != nil {
		t.Fatal(err)
	}
	_, _ = file.Close(), l.Close()
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	ask(t, dialUnix(t, path))
	_ = e.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Error(err)
	}
}

func TestAdoptRefuses(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	connected := dial(t, l.Addr().String())
	regular, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = regular.Close() }()
	for name, c := range map[string]struct {
		file func() (*os.File, error)
		is   error
	}{
		"a datagram socket":  {udp.(*net.UDPConn).File, errors.ErrUnsupported},
		"a connected socket": {connected.File, syscall.EINVAL},
		"a file":             {func() (*os.File, error) { return regular, nil }, syscall.ENOTSOCK},
		"nothing":            {func() (*os.File, error) { return nil, nil }, os.ErrInvalid},
	} {
		file, err := c.file()
		if err != nil {
			t.Fatal(err)
		}
		e := engine.New(engine.Config{Handler: echo})
		if _, err := e.Adopt(file, engine.Packets()); !errors.Is(err, c.is) {
			t.Errorf("%s: %v", name, err)
		}
		_, _ = e.Close(), file.Close()
	}
}

// TestHandoverLeavesNoDescriptor opens, hands over and closes listeners many
// times.
func TestHandoverLeavesNoDescriptor(t *testing.T) {
	round := func() {
		for _, addr := range []string{"127.0.0.1:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
			e1 := engine.New(engine.Config{Handler: echo, Cores: 1})
			l, err := e1.Listen(addr, engine.Packets())
			if err != nil {
				t.Fatal(err)
			}
			file, err := l.File()
			if err != nil {
				t.Fatal(err)
			}
			e2 := engine.New(engine.Config{Handler: echo, Cores: 1})
			if _, err := e2.Adopt(file, engine.Packets()); err != nil {
				t.Fatal(err)
			}
			_ = file.Close()
			if err := e1.Start(); err != nil {
				t.Fatal(err)
			}
			_, _ = e1.Close(), e2.Close()
		}
	}
	round()
	before := descriptors(t)
	for range 20 {
		round()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no list of descriptors: ", err)
	}
	return len(entries)
}

// TestReleaseTransports frees the sockets of a transport, while its engine and the
// listener's stream socket continue.
func TestReleaseTransports(t *testing.T) {
	transport := &closable{}
	e, l := serveAt(t, engine.Config{Handler: echo}, "127.0.0.1:0", engine.Packets(), transport)
	if err := l.ReleaseTransports(context.Background()); err != nil {
		t.Fatal(err)
	}
	if transport.closed != 1 {
		t.Fatal(transport.closed, " times closed")
	}
	ask(t, dial(t, l.Addr().String()))
	_ = e.Close()
	if transport.closed != 1 {
		t.Error("closed again")
	}
}

// closable is a transport without connections that counts how often it is
// closed.
type closable struct{ closed int }

func (*closable) Name() string { return "closable" }
func (c *closable) Listen(_ *engine.Host, addr string) (engine.Endpoint, error) {
	conn, err := net.ListenPacket("udp", addr)
	if err != nil {
		return nil, err
	}
	return &closableEndpoint{c, conn}, nil
}
func (*closable) Dial(context.Context, *engine.Host, string) (*engine.Port, error) {
	return nil, errors.ErrUnsupported
}

type closableEndpoint struct {
	transport *closable
	conn      net.PacketConn
}

func (e *closableEndpoint) Addr() net.Addr { return e.conn.LocalAddr() }
func (*closableEndpoint) StopAccepting()   {}
func (e *closableEndpoint) Close() error {
	e.transport.closed++
	return e.conn.Close()
}

func TestTransportsHaveNoUnixSockets(t *testing.T) {
	e := engine.New(engine.Config{Handler: echo})
	defer func() { _ = e.Close() }()
	if _, err := e.Listen("unix:"+filepath.Join(t.TempDir(), "s"), engine.Packets(), &closable{}); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatal(err)
	}
}

// TestListenAgainAfterAnError: a running engine isn't spoiled by a busy port.
func TestListenAgainAfterAnError(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo})
	if _, err := e.Listen(addr, engine.Packets()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	l, err := e.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		t.Fatal(err)
	}
	ask(t, dial(t, l.Addr().String()))
}

const activationEnv = "MILLRACE_TEST_ACTIVATION"

// TestActivationFiles runs this test again in a process with the descriptors and variables
// that systemd passes.
func TestActivationFiles(t *testing.T) {
	if os.Getenv(activationEnv) != "" {
		activated(t)
		return
	}
	for _, v := range []struct{ pid, fds, says string }{
		{"", "2", "none"},
		{"1", "2", "none"},
		{"x", "2", "LISTEN_PID"},
		{"$$", "x", "LISTEN_FDS"},
		{"$$", "99999999", "LISTEN_FDS"},
		{"$$", "3", "LISTEN_FDS is 3, but descriptor 5"},
		{"$$", "2", "first=127.0.0.1:1 fd 4=unix"},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		u, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		f3, _ := l.(*net.TCPListener).File()
		f4, _ := u.(*net.UnixListener).File()
		cmd := exec.Command("/bin/sh", "-c", "LISTEN_PID="+v.pid+` exec "$0" -test.run '^TestActivationFiles$' -test.v`, os.Args[0])
		cmd.Env = append(os.Environ(), activationEnv+"=1", "LISTEN_FDS="+v.fds, "LISTEN_FDNAMES=first")
		cmd.ExtraFiles = []*os.File{f3, f4}
		out, err := cmd.CombinedOutput()
		want := strings.NewReplacer("127.0.0.1:1", l.Addr().String(), "unix", "unix:"+u.Addr().String()).Replace(v.says)
		if err != nil || !strings.Contains(string(out), "activated: "+want) {
			t.Errorf("%+v: %v, %s", v, err, out)
		}
		_, _, _, _ = f3.Close(), f4.Close(), l.Close(), u.Close()
	}
}

// activated prints the result of ActivationFiles, and serves the files.
func activated(t *testing.T) {
	files, err := engine.ActivationFiles()
	if err != nil {
		fmt.Println("activated:", strings.TrimPrefix(err.Error(), "engine: "))
		return
	}
	if len(files) == 0 {
		fmt.Println("activated: none")
		return
	}
	if os.Getenv("LISTEN_FDS")+os.Getenv("LISTEN_PID")+os.Getenv("LISTEN_FDNAMES") != "" {
		t.Error("variables are left")
	}
	if again, err := engine.ActivationFiles(); err != nil || len(again) > 0 {
		t.Error("found again: ", again, err)
	}
	e := engine.New(engine.Config{Handler: engine.HandlerFunc(func(*engine.Session, *framing.Message) {})})
	defer func() { _ = e.Close() }()
	var says []string
	for _, f := range files {
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_GETFD, 0)
		if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
			t.Error(f.Name(), " would be inherited")
		}
		l, err := e.Adopt(f, engine.Packets())
		if err != nil {
			t.Fatal(err)
		}
		says = append(says, f.Name()+"="+l.String())
	}
	fmt.Println("activated:", strings.Join(says, " "))
}
