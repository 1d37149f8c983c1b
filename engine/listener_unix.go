package engine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/reactor"
)

// ErrNotSocket: the path of a Unix socket to listen on is another kind of file, which
// is left unchanged.
var ErrNotSocket = errors.New("engine: the path exists and is not a socket")

const (
	unixPrefix    = "unix:"
	unixTransport = "unix" // the transport name of packets and framings over a Unix socket

	directoryLockTries = 100
	directoryLockPause = 10 * time.Millisecond
	liveProbeTimeout   = time.Second
)

// unixName returns the socket's name if addr means a Unix socket.
func unixName(addr string) (string, bool) { return strings.CutPrefix(addr, unixPrefix) }

// transportName returns the transport name of sessions of p at addr: for packets and
// framings it depends on the kind of socket.
func transportName(p Protocol, addr string) string {
	if _, ok := unixName(addr); ok && p.Name() == (packets{}).Name() {
		return unixTransport
	}
	return p.Name()
}

// socketFile identifies the file of a Unix socket.
type socketFile struct {
	path string
	info os.FileInfo // device and inode; nil if there is nothing to unlink
}

// listenUnix binds the Unix socket name. A socket file without a listener is replaced;
// any other file at that path stays.
func listenUnix(name string, o *reactor.Options) (int, socketFile, error) {
	switch {
	case name == "" || name == "@":
		return -1, socketFile{}, errors.New("no name for the Unix socket")
	case name[0] == '@':
		if runtime.GOOS != "linux" {
			return -1, socketFile{}, fmt.Errorf("abstract Unix sockets: %w", errors.ErrUnsupported)
		}
		fd, err := reactor.ListenUnix(name, o)
		return fd, socketFile{}, err
	}
	defer lockDirectory(filepath.Dir(name))()
	if err := removeStale(name); err != nil {
		return -1, socketFile{}, err
	}
	fd, err := reactor.ListenUnix(name, o)
	if err != nil {
		return -1, socketFile{}, err
	}
	file, err := statSocket(name)
	if err != nil {
		reactor.Close(fd)
		return -1, socketFile{}, err
	}
	return fd, file, nil
}

// removeStale unlinks the socket file at path if no process listens there.
func removeStale(path string) error {
	before, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case before.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("%w: %s is a %v", ErrNotSocket, path, before.Mode().Type())
	}
	conn, err := net.DialTimeout("unix", path, liveProbeTimeout)
	switch {
	case err == nil:
		_ = conn.Close()
		return fmt.Errorf("somebody listens there: %w", syscall.EADDRINUSE)
	case errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EPROTOTYPE), errors.Is(err, os.ErrDeadlineExceeded):
		// A full backlog, or a socket of another type: there is a listener.
		return fmt.Errorf("somebody listens there: %w", syscall.EADDRINUSE)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("is somebody listening there? %w", err)
	}
	return socketFile{path, before}.unlink()
}

// statSocket returns the identity of the socket file at path.
func statSocket(path string) (socketFile, error) {
	abs, err := filepath.Abs(path) // the process may change its directory
	if err != nil {
		return socketFile{}, err
	}
	info, err := os.Lstat(abs)
	if err != nil {
		return socketFile{}, err
	}
	return socketFile{abs, info}, nil
}

// unlink removes the file if it is still the same one. It never removes a directory or
// its contents.
func (f socketFile) unlink() error {
	if f.info == nil {
		return nil
	}
	now, err := os.Lstat(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if now.Mode().Type() != os.ModeSocket || !os.SameFile(f.info, now) {
		return nil // replaced by another process
	}
	if err := unix.Unlink(f.path); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: f.path, Err: err}
	}
	return nil
}

// lockDirectory prevents other engines from replacing a socket file in dir while this
// one is between bind and listen, when connecting fails. It is best effort: if the lock
// is not free within a second, or the directory cannot be locked, it continues without.
func lockDirectory(dir string) (unlock func()) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return func() {}
	}
	for range directoryLockTries {
		err := unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err != unix.EWOULDBLOCK && err != unix.EINTR {
			break
		}
		time.Sleep(directoryLockPause)
	}
	return func() { _ = unix.Close(fd) } // which unlocks
}
