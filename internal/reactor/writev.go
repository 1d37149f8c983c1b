//go:build (linux && race) || darwin

package reactor

import "golang.org/x/sys/unix"

// Writev writes bufs in order by one system call; a short count is no error.
func Writev(fd int, bufs [][]byte) (int, error) {
	for {
		n, err := unix.Writev(fd, bufs)
		if err == unix.EINTR {
			continue
		}
		return n, err
	}
}
