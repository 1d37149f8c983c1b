//go:build !linux || race

package reactor

import "golang.org/x/sys/unix"

// read is unix.Read.
func read(fd int, b []byte) (int, error) { return unix.Read(fd, b) }

// write is unix.Write.
func write(fd int, b []byte) (int, error) { return unix.Write(fd, b) }
