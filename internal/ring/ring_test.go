package ring

import (
	"math"
	"strings"
	"testing"
)

func TestNewRoundsUp(t *testing.T) {
	for _, c := range []struct{ size, capacity int }{
		{math.MinInt, MinSize}, {-1, MinSize}, {0, MinSize}, {1, MinSize}, {MinSize - 1, MinSize}, {MinSize, MinSize},
		{MinSize + 1, 2 * MinSize}, {100_000, 128 << 10}, {1 << 20, 1 << 20}, {1<<20 + 1, 2 << 20},
	} {
		r := New(c.size)
		if r.Cap() != c.capacity || len(r.words)*headerSize != c.capacity {
			t.Errorf("New(%d) has capacity %d in %d words, want %d", c.size, r.Cap(), len(r.words), c.capacity)
		}
		if r.MaxRecord() != c.capacity/4 {
			t.Errorf("New(%d) takes records of %d bytes, want %d", c.size, r.MaxRecord(), c.capacity/4)
		}
		if !r.Empty() || r.Ready() || r.Depth() != 0 {
			t.Errorf("New(%d) isn't empty", c.size)
		}
	}
	wantPanic(t, "ring: size of 1073741825 bytes is more than 1073741824", func() { New(MaxSize + 1) })
}

func TestDepthEmptyReady(t *testing.T) {
	r := New(0)
	step := func(what string, depth int, empty, ready bool) {
		t.Helper()
		if r.Depth() != depth || r.Empty() != empty || r.Ready() != ready {
			t.Fatalf("%s: depth %d, empty %v, ready %v; want %d, %v, %v",
				what, r.Depth(), r.Empty(), r.Ready(), depth, empty, ready)
		}
	}
	step("new", 0, true, false)
	first := mustClaim(t, r, 1)
	step("claimed", 16, false, false)
	put(t, r, 2, "nine byte")
	step("committed behind an open claim", 40, false, false)
	r.Commit(first, 1)
	step("committed", 40, false, true)
	want(t, r, 1, "\x00")
	step("read one", 40, false, true)
	want(t, r, 2, "nine byte")
	step("read both", 40, false, false)
	if n := r.Release(); n != 40 {
		t.Fatalf("released %d bytes, want 40", n)
	}
	step("released", 0, true, false)
	if n := r.Release(); n != 0 {
		t.Fatalf("released %d bytes again", n)
	}
}

// A full ring is read to its end exactly once, although the memory after its last record is that of
// its first.
func TestFullRingIsReadOnce(t *testing.T) {
	r := New(0)
	payload := strings.Repeat("x", 56)
	for i := range r.Cap() / 64 {
		put(t, r, uint32(i), payload)
	}
	if _, ok := r.Claim(1); ok {
		t.Fatal("claimed in a full ring")
	}
	if r.Depth() != r.Cap() {
		t.Fatalf("depth %d of %d", r.Depth(), r.Cap())
	}
	for i := range r.Cap() / 64 {
		want(t, r, uint32(i), payload)
	}
	wantNone(t, r)
	if r.Ready() {
		t.Fatal("ready, though everything has been read")
	}
	if _, ok := r.Claim(1); ok {
		t.Fatal("claimed space that is read but not released")
	}
	if n := r.Release(); n != r.Cap() {
		t.Fatalf("released %d bytes", n)
	}
	checkFree(t, r)
	put(t, r, 7, payload)
	want(t, r, 7, payload)
}
