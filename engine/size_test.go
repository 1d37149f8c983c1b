package engine

import (
	"testing"
	"unsafe"

	"github.com/millrace/millrace/internal/reactor"
)

// TestSessionIsSmall holds goal 9 of an idle session: the allocator's size class
// of 416 bytes, with 24 in the tables, stays below 450. What few sessions need
// has to live elsewhere.
func TestSessionIsSmall(t *testing.T) {
	// The poller keeps more in its part where the build tag poll_opt is set.
	const conn = 32
	if size := unsafe.Sizeof(Session{}) - unsafe.Sizeof(reactor.Conn{}) + conn; unsafe.Sizeof(uintptr(0)) == 8 && size > 416 {
		t.Errorf("a Session is %d bytes", size)
	}
}
