//go:build !linux && !darwin

package reactor

// Writev writes bufs in order; a short count is no error.
func Writev(fd int, bufs [][]byte) (int, error) {
	total := 0
	for _, b := range bufs {
		n, err := Write(fd, b)
		if n > 0 {
			total += n
		}
		if err != nil && total == 0 {
			return n, err
		}
		if err != nil || n < len(b) {
			break
		}
	}
	return total, nil
}
