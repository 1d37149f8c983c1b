package mux

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/framing"
)

// counter returns a source of ids that counts from first on.
func counter(first uint32) func() uint32 {
	next := first - 1
	return func() uint32 {
		next++
		return next
	}
}

func TestTableAddTake(t *testing.T) {
	var tab table
	ids := counter(7)
	a, b := newCall(&framing.Message{}), newCall(&framing.Message{})
	idA, errA := tab.add(a, ids, 10)
	idB, errB := tab.add(b, ids, 10)
	if errA != nil || errB != nil || idA != 7 || idB != 8 {
		t.Fatalf("add gave %d (%v) and %d (%v), want 7 and 8", idA, errA, idB, errB)
	}
	if got := tab.take(idB); got != b {
		t.Errorf("take(%d) = %p, want %p", idB, got, b)
	}
	if got := tab.take(idB); got != nil {
		t.Errorf("the second take(%d) = %p, want nil", idB, got)
	}
	if got := tab.take(99); got != nil {
		t.Errorf("take of an unknown id = %p, want nil", got)
	}
	if got := tab.take(idA); got != a {
		t.Errorf("take(%d) = %p, want %p", idA, got, a)
	}
}

func TestTableSkipsIDsInUse(t *testing.T) {
	var tab table
	old, _ := tab.add(newCall(&framing.Message{}), counter(5), 10)
	id, err := tab.add(newCall(&framing.Message{}), counter(5), 10)
	if err != nil || id != 6 {
		t.Errorf("with id %d pending, add gave %d (%v), want 6", old, id, err)
	}
}

func TestTableBound(t *testing.T) {
	var tab table
	ids := counter(1)
	for range 3 {
		if _, err := tab.add(newCall(&framing.Message{}), ids, 3); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tab.add(newCall(&framing.Message{}), ids, 3); !errors.Is(err, ErrTooManyPending) {
		t.Errorf("the fourth of 3 gave %v, want ErrTooManyPending", err)
	}
	tab.take(2)
	if _, err := tab.add(newCall(&framing.Message{}), ids, 3); err != nil {
		t.Errorf("after a take, add gave %v", err)
	}
}

func TestTableClose(t *testing.T) {
	var tab table
	reason := errors.New("the end")
	c := newCall(&framing.Message{})
	if _, err := tab.add(c, counter(1), 10); err != nil {
		t.Fatal(err)
	}
	tab.close(reason)
	if a := <-c.done; a.err != reason || a.m != nil {
		t.Errorf("a pending call got %+v, want the close reason", a)
	}
	if tab.take(1) != nil {
		t.Error("a closed table still holds its call")
	}
	if _, err := tab.add(c, counter(1), 10); err != reason {
		t.Errorf("add after close gave %v, want the close reason", err)
	}
}

// A burst of pending requests must not keep its memory (hazard 12).
func TestHazard12TableShrinks(t *testing.T) {
	var tab table
	for _, n := range []int{shrinkAbove, shrinkAbove + 1} {
		ids := counter(1)
		for range n {
			if _, err := tab.add(newCall(&framing.Message{}), ids, n); err != nil {
				t.Fatal(err)
			}
		}
		for id := range uint32(n) {
			tab.take(id + 1).free()
		}
		if kept := tab.calls != nil; kept != (n <= shrinkAbove) {
			t.Errorf("after %d calls at once, map kept = %v", n, kept)
		}
	}
}

func TestCallIsARequest(t *testing.T) {
	c := newCall(&framing.Message{Type: framing.Response, ID: 9, BizType: 3, Payload: []byte("x")})
	if c.request.Type != framing.Request || c.request.BizType != 3 || string(c.request.Payload) != "x" {
		t.Errorf("call asks %+v", c.request)
	}
	c.free()
	if c.request.Payload != nil {
		t.Error("a freed call keeps the caller's payload")
	}
}

func TestTableAllocations(t *testing.T) {
	var tab table
	ids := counter(1)
	m := &framing.Message{Payload: []byte("x")}
	tab.add(newCall(m), ids, 10) // so that the map exists
	allocs := testing.AllocsPerRun(1000, func() {
		c := newCall(m)
		id, err := tab.add(c, ids, 10)
		if err != nil || tab.take(id) != c {
			t.Fatal("lost a call")
		}
		c.done <- answer{}
		<-c.done
		c.free()
	})
	if allocs != 0 {
		t.Errorf("a request's bookkeeping allocates %v times", allocs)
	}
}
