package ring

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// put claims, fills and commits one record, and fails the test if there is no space.
func put(t testing.TB, r *Ring, kind uint32, payload string) {
	t.Helper()
	c := mustClaim(t, r, len(payload))
	copy(c.Buf, payload)
	r.Commit(c, kind)
}

func mustClaim(t testing.TB, r *Ring, size int) Claim {
	t.Helper()
	c, ok := r.Claim(size)
	if !ok {
		t.Fatalf("no room for %d bytes at depth %d", size, r.Depth())
	}
	if len(c.Buf) != size || cap(c.Buf) != size {
		t.Fatalf("claim of %d bytes: len %d, cap %d", size, len(c.Buf), cap(c.Buf))
	}
	return c
}

// want reads one record and compares it.
func want(t testing.TB, r *Ring, kind uint32, payload string) {
	t.Helper()
	gotKind, got, ok := r.Next()
	if !ok {
		t.Fatalf("no record, want %q", payload)
	}
	if gotKind != kind || string(got) != payload {
		t.Fatalf("got kind %d, %d bytes %.40q, want kind %d, %d bytes %.40q",
			gotKind, len(got), got, kind, len(payload), payload)
	}
	if cap(got) != len(got) {
		t.Fatalf("payload of %d bytes has capacity %d", len(got), cap(got))
	}
}

func wantNone(t testing.TB, r *Ring) {
	t.Helper()
	if kind, got, ok := r.Next(); ok {
		t.Fatalf("unexpected record: kind %d, %q", kind, got)
	}
}

// wantPanic calls f and fails the test unless it panics with this message.
func wantPanic(t testing.TB, message string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		if got := recover(); got != message {
			t.Fatalf("panic %v, want %q", got, message)
		}
	}()
	f()
}

// checkFree verifies invariants 1, 2 and 4 of Ring while no producer is at work.
func checkFree(t testing.TB, r *Ring) {
	t.Helper()
	head, tail, capacity := r.head.Load(), r.tail.Load(), uint64(r.Cap())
	if head > r.cursor || r.cursor > tail || tail-head > capacity || r.released != head || r.cachedHead.Load() > head {
		t.Fatalf("positions out of order: head %d, released %d, cached %d, cursor %d, tail %d",
			head, r.released, r.cachedHead.Load(), r.cursor, tail)
	}
	if head%headerSize != 0 || tail%headerSize != 0 || r.cursor%headerSize != 0 {
		t.Fatalf("positions not aligned: head %d, cursor %d, tail %d", head, r.cursor, tail)
	}
	for position := tail; position < head+capacity; position += headerSize {
		if word := *r.header(position); word != 0 {
			t.Fatalf("free space at %d (head %d, tail %d) holds %#x", position, head, tail, word)
		}
	}
}
