package engine

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// systemdFirstFD is the first descriptor that a service manager passes
// (sd_listen_fds(3), SD_LISTEN_FDS_START).
const systemdFirstFD = 3

// ActivationFiles returns the sockets that systemd opened for this process, in the
// order of its unit files and with their names; none if there are none. It makes them
// close-on-exec and unsets LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES, so that child
// processes do not use them; a second call returns none. The caller owns the files. It
// fails if the variables are malformed or name a descriptor that is not a socket.
// (sd_listen_fds(3).)
func ActivationFiles() ([]*os.File, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	if pid == "" || count == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(pid)
	if err != nil {
		return nil, fmt.Errorf("engine: LISTEN_PID %q is not a number", pid)
	}
	if n != os.Getpid() {
		return nil, nil // meant for another process
	}
	for _, v := range [...]string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		if err := os.Unsetenv(v); err != nil {
			return nil, fmt.Errorf("engine: %w", err)
		}
	}
	if n, err = strconv.Atoi(count); err != nil || n < 0 || n > 1<<16 {
		return nil, fmt.Errorf("engine: LISTEN_FDS %q is not a number of descriptors", count)
	}
	name := strings.Split(names, ":")
	files := make([]*os.File, 0, n)
	for i := range n {
		fd := systemdFirstFD + i
		if _, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
			return nil, fmt.Errorf("engine: LISTEN_FDS is %d, but descriptor %d: %w", n, fd, err)
		}
		unix.CloseOnExec(fd)
		called := "fd " + strconv.Itoa(fd)
		if i < len(name) && name[i] != "" {
			called = name[i]
		}
		files = append(files, os.NewFile(uintptr(fd), called))
	}
	return files, nil
}
