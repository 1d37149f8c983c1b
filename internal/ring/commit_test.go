package ring

import (
	"strings"
	"testing"
)

func TestCommitOutOfOrder(t *testing.T) {
	r := New(0)
	a, b, c := mustClaim(t, r, 1), mustClaim(t, r, 2), mustClaim(t, r, 3)
	copy(a.Buf, "a")
	copy(b.Buf, "bb")
	copy(c.Buf, "ccc")
	r.Commit(c, 3)
	wantNone(t, r)
	r.Commit(a, 1)
	want(t, r, 1, "a")
	wantNone(t, r)
	r.Commit(b, 2)
	want(t, r, 2, "bb")
	want(t, r, 3, "ccc")
	wantNone(t, r)
}

// Every size with every used length, as the last claim (the rest is returned) and with one after it
// (the rest is padded).
func TestCommitPart(t *testing.T) {
	r := New(0)
	payload := strings.Repeat("0123456789", 5)
	for size := 1; size <= len(payload); size++ {
		for used := 0; used <= size; used++ {
			record := uint64(0)
			if used > 0 {
				record = aligned(used)
			}

			c := mustClaim(t, r, size)
			copy(c.Buf, payload[:used])
			r.CommitPart(c, used, 1)
			if end := c.position + record; r.tail.Load() != end {
				t.Fatalf("size %d, used %d: tail %d, want %d", size, used, r.tail.Load(), end)
			}
			checkFree(t, r)

			c = mustClaim(t, r, size)
			next := mustClaim(t, r, 1)
			copy(c.Buf, payload[:used])
			r.CommitPart(c, used, 2)
			next.Buf[0] = '.'
			r.Commit(next, 3)

			if used > 0 {
				want(t, r, 1, payload[:used])
				want(t, r, 2, payload[:used])
			}
			want(t, r, 3, ".")
			wantNone(t, r)
			r.Release()
			checkFree(t, r)
			if !r.Empty() {
				t.Fatalf("size %d, used %d: depth %d", size, used, r.Depth())
			}
		}
	}
}

// Claims given back in the order last to first leave the ring as if they had never been.
func TestGiveBackUnwinds(t *testing.T) {
	r := New(0)
	put(t, r, 1, "stays")
	before := r.tail.Load()
	var claims []Claim
	for {
		c, ok := r.Claim(100)
		if !ok {
			break
		}
		claims = append(claims, c)
	}
	for i := len(claims) - 1; i >= 0; i-- {
		r.CommitPart(claims[i], 0, 9)
	}
	if r.tail.Load() != before {
		t.Fatalf("tail %d, want %d", r.tail.Load(), before)
	}
	checkFree(t, r)
	put(t, r, 2, "next")
	want(t, r, 1, "stays")
	want(t, r, 2, "next")
	wantNone(t, r)
}

// Given back in the order first to last, only the last one's space returns at once; the others
// become padding, which wakes the consumer's interest and is released by it.
func TestAbandonedClaimsBecomePadding(t *testing.T) {
	r := New(0)
	claims := []Claim{mustClaim(t, r, 100), mustClaim(t, r, 200), mustClaim(t, r, 300)}
	for _, c := range claims {
		r.CommitPart(c, 0, 9)
	}
	if got, want := uint64(r.Depth()), aligned(100)+aligned(200); got != want {
		t.Fatalf("depth %d, want %d", got, want)
	}
	if !r.Ready() {
		t.Fatal("padding is left unreleased: a producer that needs its room would wait in vain")
	}
	wantNone(t, r)
	if n := r.Release(); uint64(n) != aligned(100)+aligned(200) || !r.Empty() {
		t.Fatalf("released %d bytes, depth %d", n, r.Depth())
	}
	checkFree(t, r)
}

// A claim at the start of memory that is given back leaves the padding before it, which must stay
// readable.
func TestGiveBackBehindWrapPadding(t *testing.T) {
	r := New(0)
	for range 3 {
		put(t, r, 1, strings.Repeat("a", 1016))
	}
	put(t, r, 1, strings.Repeat("a", 1000)) // 16 bytes left before the end.
	for range 4 {
		if _, _, ok := r.Next(); !ok {
			t.Fatal("no record")
		}
	}
	r.Release()
	c := mustClaim(t, r, 500)
	r.CommitPart(c, 0, 9)
	if r.tail.Load() != uint64(r.Cap()) {
		t.Fatalf("tail %d, want %d", r.tail.Load(), r.Cap())
	}
	wantNone(t, r)
	if n := r.Release(); n != 16 {
		t.Fatalf("released %d bytes, want the padding's 16", n)
	}
	checkFree(t, r)
	put(t, r, 2, "start")
	want(t, r, 2, "start")
}

func TestCommitPartRejectsUsed(t *testing.T) {
	r := New(0)
	c := mustClaim(t, r, 8)
	wantPanic(t, "ring: commit of -1 bytes is not between 0 and 8", func() { r.CommitPart(c, -1, 0) })
	wantPanic(t, "ring: commit of 9 bytes is not between 0 and 8", func() { r.CommitPart(c, 9, 0) })
	r.CommitPart(c, 8, 5)
	want(t, r, 5, strings.Repeat("\x00", 8))
}

func TestBrokenPromisesAreCaught(t *testing.T) {
	if !raceEnabled {
		t.Skip("producers' promises are checked under the race detector only")
	}
	r := New(0)
	c := mustClaim(t, r, 64)
	c.Buf[40] = 1
	wantPanic(t, "ring: bytes past the committed part were written", func() { r.CommitPart(c, 40, 0) })
	r.CommitPart(c, 41, 0)
	wantPanic(t, "ring: claim committed twice", func() { r.Commit(c, 0) })
	wantPanic(t, "ring: commit of no claim", func() { r.Commit(Claim{}, 0) })
}
