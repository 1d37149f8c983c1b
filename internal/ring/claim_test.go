package ring

import (
	"fmt"
	"strings"
	"testing"
)

func TestClaimRejectsSizes(t *testing.T) {
	r := New(0)
	for _, size := range []int{-1, 0, r.MaxRecord() + 1} {
		wantPanic(t, fmt.Sprintf("ring: claim of %d bytes is not between 1 and 1024", size), func() { r.Claim(size) })
	}
	if !r.Empty() {
		t.Fatal("a refused claim took space")
	}
}

// At every position of the tail an empty ring has space for the largest record, it isn't wrapped,
// and the padding before it is neither seen nor lost.
func TestClaimFitsAnywhereInEmptyRing(t *testing.T) {
	largest := strings.Repeat("L", New(0).MaxRecord())
	for before := headerSize * 2; before <= MinSize; before += headerSize {
		r := New(0)
		// Move head and tail to before, with records no larger than allowed.
		for left := before; left > 0; {
			n := min(left, r.MaxRecord())
			if left-n == headerSize {
				n -= headerSize // A record takes at least two words.
			}
			put(t, r, 1, strings.Repeat("p", n-headerSize))
			left -= n
		}
		for range (before + r.MaxRecord() - 1) / r.MaxRecord() {
			if _, _, ok := r.Next(); !ok {
				break
			}
		}
		r.Release()
		if head := r.head.Load(); head != uint64(before) || !r.Empty() {
			t.Fatalf("head at %d, want %d", head, before)
		}
		put(t, r, 2, largest)
		put(t, r, 3, "behind")
		want(t, r, 2, largest)
		want(t, r, 3, "behind")
		r.Release()
		if !r.Empty() {
			t.Fatalf("from %d: depth %d at the end", before, r.Depth())
		}
		checkFree(t, r)
	}
}

// The last record may end exactly where memory ends, without padding.
func TestClaimUpToTheEnd(t *testing.T) {
	r := New(0)
	for range 4 {
		put(t, r, 1, strings.Repeat("a", 1000))
	}
	rest := r.Cap() - r.Depth() - headerSize
	for range 4 {
		want(t, r, 1, strings.Repeat("a", 1000))
	}
	r.Release()
	put(t, r, 2, strings.Repeat("b", rest))
	if tail := r.tail.Load(); tail != uint64(r.Cap()) {
		t.Fatalf("tail at %d", tail)
	}
	put(t, r, 3, "start")
	if r.Depth() != rest+headerSize+16 {
		t.Fatalf("depth %d: there is padding", r.Depth())
	}
	want(t, r, 2, strings.Repeat("b", rest))
	want(t, r, 3, "start")
}

// A record that doesn't fit before the end must not be refused for space that only its padding
// lacks, nor overwrite the head for want of it.
func TestClaimCountsPadding(t *testing.T) {
	r := New(0)
	for range 3 {
		put(t, r, 1, strings.Repeat("a", 1016))
	}
	put(t, r, 2, strings.Repeat("b", 504)) // 3584 used, 512 left before the end.
	want(t, r, 1, strings.Repeat("a", 1016))
	r.Release() // 1536 free: 512 at the end, 1024 at the start.
	if _, ok := r.Claim(1017); ok {
		t.Fatal("claimed 1032 bytes at the start, where 1024 are free")
	}
	checkFree(t, r)
	put(t, r, 3, strings.Repeat("c", 1016))
	if r.Depth() != r.Cap() {
		t.Fatalf("depth %d", r.Depth())
	}
	for range 2 {
		want(t, r, 1, strings.Repeat("a", 1016))
	}
	want(t, r, 2, strings.Repeat("b", 504))
	want(t, r, 3, strings.Repeat("c", 1016))
	wantNone(t, r)
	r.Release()
	checkFree(t, r)
}

func TestClaimedBytesAreZero(t *testing.T) {
	r := New(0)
	for i := range 500 {
		c := mustClaim(t, r, 1+i*7%r.MaxRecord())
		for j, b := range c.Buf {
			if b != 0 {
				t.Fatalf("claim %d: byte %d is %#x", i, j, b)
			}
			c.Buf[j] = 0xff
		}
		r.Commit(c, ^uint32(0))
		if kind, _, ok := r.Next(); !ok || kind != ^uint32(0) {
			t.Fatalf("record %d: kind %#x, ok %v", i, kind, ok)
		}
		r.Release()
	}
	checkFree(t, r)
}

func TestNoAllocations(t *testing.T) {
	r := New(0)
	var p Parker
	allocs := testing.AllocsPerRun(1000, func() {
		c, _ := r.Claim(64)
		r.Commit(c, 1)
		c, _ = r.Claim(64)
		r.CommitPart(c, 10, 2)
		p.Wake()
		p.Arm()
		p.Wake()
		p.Park()
		for {
			if _, _, ok := r.Next(); !ok {
				break
			}
		}
		r.Release()
		if _, ok := r.Claim(1); !ok || r.Ready() {
			t.Fatal("unexpected state")
		}
		r.tail.Store(r.head.Load())
	})
	if allocs != 0 {
		t.Fatalf("%v allocations", allocs)
	}
}
