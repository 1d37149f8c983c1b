//go:build linux && !race

package reactor

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxVector is how many buffers one system call writes.
const maxVector = 64

// Writev writes bufs in order by one system call, at most the first 64; a short count is
// no error. It does not allocate. Like write it bypasses the scheduler if at most maxRaw
// bytes are written.
func Writev(fd int, bufs [][]byte) (int, error) {
	var vector [maxVector]unix.Iovec
	count, size := 0, 0
	for _, b := range bufs[:min(len(bufs), maxVector)] {
		if len(b) > 0 {
			vector[count].Base = unsafe.SliceData(b)
			vector[count].SetLen(len(b))
			count++
			size += len(b)
		}
	}
	for {
		var n uintptr
		var errno unix.Errno
		if size <= maxRaw {
			n, _, errno = unix.RawSyscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&vector)), uintptr(count))
		} else {
			n, _, errno = unix.Syscall(unix.SYS_WRITEV, uintptr(fd), uintptr(unsafe.Pointer(&vector)), uintptr(count))
		}
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return -1, errno
		}
	}
}
