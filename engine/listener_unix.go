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

// ErrNotSocket: the path of a Unix socket to listen on is something else, which
// is left alone.
var ErrNotSocket = errors.New("engine: the path exists and is not a socket")

const (
	unixPrefix    = "unix:"
	unixTransport = "unix" // what packets and framings are called there

	directoryLockTries = 100
	directoryLockPause = 10 * time.Millisecond
	liveProbeTimeout   = time.Second
)

// unixName is the socket's name if addr means a Unix socket.
func unixName(addr string) (string, bool) { return strings.CutPrefix(addr, unixPrefix) }

// transportName is what sessions of p at addr are called: packets and framings
// take their name from the kind of socket.
func transportName(p Protocol, addr string) string {
	if _, ok := unixName(addr); ok && p.Name() == (packets{}).Name() {
		return unixTransport
	}
	return p.Name()
}

// socketFile is a Unix socket's place in the file system.
type socketFile struct {
	path string
	info os.FileInfo // device and inode; nil if there is nothing to unlink
}

// listenUnix binds the Unix socket name. A socket file that nobody answers at is
// replaced; anything else that is there stays.
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

// removeStale unlinks the socket file at path if nobody listens there.
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
		// A full backlog, a socket of another type: alive as well.
		return fmt.Errorf("somebody listens there: %w", syscall.EADDRINUSE)
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("is somebody listening there? %w", err)
	}
	return socketFile{path, before}.unlink()
}

// statSocket remembers which file the socket at path is.
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

// unlink removes the file if it is still the same one. It never removes a
// directory, nor anything below one.
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
		return nil // somebody else's by now
	}
	if err := unix.Unlink(f.path); err != nil && err != unix.ENOENT {
		return &os.PathError{Op: "unlink", Path: f.path, Err: err}
	}
	return nil
}

// lockDirectory keeps other processes of this kind from judging a socket file
// in dir while this one is between binding and listening, when nobody answers
// there. It is best effort: a directory that can't be locked in a second is used
// all the same.
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
