//go:build linux && !race

package reactor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxRaw is the largest number of bytes, 64 KiB, that one raw system call copies.
const maxRaw = 64 << 10

// read is unix.Read that bypasses the Go scheduler: it does not tell it that the thread is
// in a system call. That saves some 50 ns a call. Meanwhile the scheduler can neither take
// the thread's P nor stop the goroutine for the garbage collector, so this is only for
// calls that end soon: the descriptors of a loop are non-blocking, and at most maxRaw bytes
// are copied, in some microseconds. More bytes are read by an ordinary call.
func read(fd int, b []byte) (int, error) {
	if len(b) > maxRaw {
		return unix.Read(fd, b)
	}
	return raw(unix.SYS_READ, fd, b)
}

// write is unix.Write; the same holds for it.
func write(fd int, b []byte) (int, error) {
	if len(b) > maxRaw {
		return unix.Write(fd, b)
	}
	return raw(unix.SYS_WRITE, fd, b)
}

// raw makes the system call for fd and b. A count below 0 comes with an error.
func raw(call uintptr, fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
