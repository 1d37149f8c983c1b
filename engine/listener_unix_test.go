package engine_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// serveAt is serve at an address of the test's.
func serveAt(t testing.TB, cfg engine.Config, addr string, protocols ...engine.Protocol) (*engine.Engine, *engine.Listener) {
	t.Helper()
	if len(protocols) == 0 {
		protocols = []engine.Protocol{engine.Packets()}
	}
	cfg.LingerTimeout = 100 * time.Millisecond
	e := engine.New(cfg)
	t.Cleanup(func() { _ = e.Close() })
	l, err := e.Listen(addr, protocols...)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e, l
}

func dialUnix(t testing.TB, name string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c.(*net.UnixConn)
}

func TestUnixSocket(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		path := filepath.Join(t.TempDir(), "s")
		j := newJournal(reply)
		e, l := serveAt(t, engine.Config{Handler: j, Dispatch: d, MaxSessionsPerAddr: 1}, "unix:"+path)
		if l.Addr().IsValid() || l.String() != "unix:"+path || l.Path() != path {
			t.Error(l.Addr(), l, l.Path())
		}
		for range 3 { // they have no address to be limited by
			c := dialUnix(t, path)
			_, _ = c.Write(ping)
			expect(t, c, pong)
			s := j.session(t)
			if s.RemoteAddr().IsValid() || s.LocalAddr().IsValid() || s.Transport() != "unix" || s.Dialed() {
				t.Error(s.RemoteAddr(), s.LocalAddr(), s.Transport())
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		s, err := e.Dial(ctx, "unix:"+path, engine.Packets())
		if err != nil {
			t.Fatal(err)
		}
		if s.RemoteAddr().IsValid() || s.Transport() != "unix" || !s.Dialed() {
			t.Error(s.RemoteAddr(), s.Transport())
		}
		if err := s.SendMessage(&framing.Message{Type: framing.OneWay, ID: 1}); err != nil {
			t.Error(err)
		}
		_ = e.Close()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Error("left behind: ", err)
		}
	})
}

func TestAbstractUnixSocket(t *testing.T) {
	name := "@millrace-test-" + filepath.Base(t.TempDir()) + "-" + time.Now().Format("150405.000000000")
	if runtime.GOOS != "linux" {
		e := engine.New(engine.Config{Handler: echo})
		defer func() { _ = e.Close() }()
		if _, err := e.Listen("unix:"+name, engine.Packets()); !errors.Is(err, errors.ErrUnsupported) {
			t.Fatal(err)
		}
		return
	}
	_, l := serveAt(t, engine.Config{Handler: echo}, "unix:"+name)
	if l.Path() != "" || l.String() != "unix:"+name {
		t.Error(l, l.Path())
	}
	c := dialUnix(t, name)
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

// listenFails listens at path and returns why that fails.
func listenFails(t *testing.T, path string) error {
	t.Helper()
	e := engine.New(engine.Config{Handler: echo})
	defer func() { _ = e.Close() }()
	_, err := e.Listen("unix:"+path, engine.Packets())
	if err == nil {
		t.Fatal("no error for ", path)
	}
	return err
}

// TestHazard17OnlyStaleSocketsAreReplaced: any other file at a Unix socket's path stays
// unchanged.
func TestHazard17OnlyStaleSocketsAreReplaced(t *testing.T) {
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	if err := os.Mkdir(full, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(full, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(full, link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{full, file, link} {
		if err := listenFails(t, path); !errors.Is(err, engine.ErrNotSocket) {
			t.Error(path, err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != "precious" {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := os.Lstat(link); err != nil {
		t.Fatal(err)
	}

	path := filepath.Join(dir, "s")
	_, _ = serveAt(t, engine.Config{Handler: echo}, "unix:"+path)
	if err := listenFails(t, path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Error("live: ", err)
	}
	c := dialUnix(t, path)
	_, _ = c.Write(ping)
	expect(t, c, pong)

	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	_, _ = serveAt(t, engine.Config{Handler: echo}, "unix:"+stale)
	c = dialUnix(t, stale)
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

// TestHazard17SomebodyElsesSocketFileStays closes a listener whose file has been
// replaced meanwhile.
func TestHazard17SomebodyElsesSocketFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	e1, _ := serveAt(t, engine.Config{Handler: echo}, "unix:"+path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	_, _ = serveAt(t, engine.Config{Handler: echo}, "unix:"+path)
	_ = e1.Close()
	c := dialUnix(t, path)
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

// TestUnixSocketsAreTakenByOne lets many fight for a stale file: one wins.
func TestUnixSocketsAreTakenByOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	const fighters = 8
	errs := make(chan error, fighters)
	for range fighters {
		e := engine.New(engine.Config{Handler: echo, Cores: 1})
		t.Cleanup(func() { _ = e.Close() })
		go func() {
			_, err := e.Listen("unix:"+path, engine.Packets())
			errs <- err
		}()
	}
	won := 0
	for range fighters {
		err := <-errs
		if err == nil {
			won++
		} else if !errors.Is(err, syscall.EADDRINUSE) {
			t.Error(err)
		}
	}
	if won != 1 {
		t.Errorf("%d have it", won)
	}
}

func TestUnixSocketNames(t *testing.T) {
	for _, name := range []string{"", "@", "/nobody/has/made/this", string(make([]byte, 200))} {
		_ = listenFails(t, name)
	}
}
