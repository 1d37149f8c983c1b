package engine

import (
	"testing"
	"unsafe"

	"github.com/millrace/millrace/internal/reactor"
)

// TestSessionIsSmall checks goal 9 for an idle session over TCP: the allocator's size
// classes of its two structs, with 24 bytes in the tables, are at most 450. State that few
// sessions need must be allocated separately.
func TestSessionIsSmall(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the goal is one of 64-bit machines")
	}
	// The poller keeps more in its part where the build tag poll_opt is set.
	const reactorConn, tables, goal = 32, 8 + 16, 450
	conn := unsafe.Sizeof(socketConn{}) - unsafe.Sizeof(reactor.Conn{}) + reactorConn
	session := unsafe.Sizeof(Session{})
	if all := sizeClass(t, session) + sizeClass(t, conn) + tables; all > goal {
		t.Errorf("a Session of %d bytes and a socketConn of %d take %d bytes, goal %d", session, conn, all, goal)
	}
}

// sizeClass returns the size that the allocator uses for an object of n bytes.
func sizeClass(t *testing.T, n uintptr) uintptr {
	t.Helper()
	for _, class := range [...]uintptr{160, 176, 192, 208, 224, 240, 256, 288} {
		if n <= class {
			return class
		}
	}
	t.Fatalf("no size class for %d bytes in the list", n)
	return 0
}
