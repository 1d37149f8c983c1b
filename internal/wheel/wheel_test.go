package wheel

import (
	"math"
	"testing"
	"unsafe"
)

// job is the owner of a timer in these tests.
type job struct {
	timer Timer[job]
	id    int
}

func newJob(id int) *job {
	j := &job{id: id}
	j.timer.Owner = j
	return j
}

// fired advances the wheel and returns the ids of the jobs that fired, in order.
func fired(w *Wheel[job], nowTick int64) []int {
	var ids []int
	w.Advance(nowTick, func(t *Timer[job]) { ids = append(ids, t.Owner.id) })
	return ids
}

func wantFired(t *testing.T, w *Wheel[job], nowTick int64, ids ...int) {
	t.Helper()
	got := fired(w, nowTick)
	if len(got) != len(ids) {
		t.Fatalf("at %d: fired %v, want %v", nowTick, got, ids)
	}
	for i := range ids {
		if got[i] != ids[i] {
			t.Fatalf("at %d: fired %v, want %v", nowTick, got, ids)
		}
	}
}

func TestSizes(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		t.Skip("the sizes are promised for 64-bit machines")
	}
	if size := unsafe.Sizeof(Timer[job]{}); size != 32 {
		t.Errorf("a timer takes %d bytes", size)
	}
	if size := unsafe.Sizeof(Wheel[job]{}); size > 6<<10 {
		t.Errorf("a wheel takes %d bytes", size)
	}
}

func TestFiresAtDeadline(t *testing.T) {
	const hour = 3600 * 20 // In ticks of 50 ms.
	for _, start := range []int64{0, 1, 63, 64, 4095, 1 << 20, 1<<36 - 1, 1 << 62} {
		for _, delay := range []int64{1, 2, 63, 64, 65, 127, 128, 4095, 4096, 4097, hour, 24 * hour, 365 * 24 * hour, 1 << 60} {
			var w Wheel[job]
			w.Advance(start, nil)
			j := newJob(7)
			w.Schedule(&j.timer, start+delay)
			if !j.timer.Armed() || w.Len() != 1 {
				t.Fatal("not armed")
			}
			wantFired(t, &w, start+delay-1)
			wantFired(t, &w, start+delay, 7)
			if j.timer.Armed() || w.Len() != 0 {
				t.Fatal("armed after it has fired")
			}
			wantFired(t, &w, math.MaxInt64)
		}
	}
}

// Ticks that come one by one, as in a running loop, cascade a timer through every level below its
// own.
func TestFiresTickByTick(t *testing.T) {
	var w Wheel[job]
	jobs := make(map[int64]*job)
	for _, deadline := range []int64{
		1, 5, 63, 64, 100, 127, 128, 4095, 4096, 5000, 8192, 100_000, 262_143, 262_144, 262_145,
	} {
		jobs[deadline] = newJob(int(deadline))
		w.Schedule(&jobs[deadline].timer, deadline)
	}
	for tick := int64(1); tick <= 262_200; tick++ {
		if jobs[tick] != nil {
			wantFired(t, &w, tick, int(tick))
		} else {
			wantFired(t, &w, tick)
		}
	}
	if w.Len() != 0 {
		t.Fatalf("%d timers left", w.Len())
	}
}

func TestReachedDeadlinesFireNextTick(t *testing.T) {
	var w Wheel[job]
	w.Advance(1000, nil)
	for i, deadline := range []int64{1000, 999, 0, -1, math.MinInt64} {
		j := newJob(i)
		w.Schedule(&j.timer, deadline)
		wantFired(t, &w, w.last())
		wantFired(t, &w, w.last()+1, i)
	}
}

// last returns the tick that the wheel is at.
func (w *Wheel[T]) last() int64 { return int64(w.now) }

func TestLastTick(t *testing.T) {
	var w Wheel[job]
	a, b := newJob(1), newJob(2)
	w.Schedule(&a.timer, math.MaxInt64)
	wantFired(t, &w, math.MaxInt64-1)
	wantFired(t, &w, math.MaxInt64, 1)
	w.Schedule(&b.timer, math.MaxInt64) // Its next tick doesn't exist.
	wantFired(t, &w, math.MaxInt64)
	if tick, ok := w.Next(); !ok || tick != math.MaxInt64 {
		t.Fatalf("next %d, %v", tick, ok)
	}
	if !w.Cancel(&b.timer) || w.Len() != 0 {
		t.Fatal("not armed")
	}
}

func TestTimeDoesNotGoBack(t *testing.T) {
	var w Wheel[job]
	j := newJob(1)
	w.Advance(500, nil)
	w.Schedule(&j.timer, 510)
	wantFired(t, &w, 100)
	wantFired(t, &w, -5)
	wantFired(t, &w, 509)
	wantFired(t, &w, 510, 1)
}

func TestReschedule(t *testing.T) {
	var w Wheel[job]
	j := newJob(1)
	w.Schedule(&j.timer, 10)
	w.Schedule(&j.timer, 100_000) // Later.
	wantFired(t, &w, 99_999)
	w.Schedule(&j.timer, 200_000)
	w.Schedule(&j.timer, 100_005) // Earlier.
	if w.Len() != 1 {
		t.Fatalf("%d timers", w.Len())
	}
	wantFired(t, &w, 100_005, 1)
	wantFired(t, &w, 300_000)
}

func TestCancel(t *testing.T) {
	var w Wheel[job]
	a, b, c := newJob(1), newJob(2), newJob(3)
	if w.Cancel(&a.timer) {
		t.Fatal("a new timer was armed")
	}
	for _, j := range []*job{a, b, c} { // One slot: first, middle and last of a list are cancelled below.
		w.Schedule(&j.timer, 100)
	}
	if !w.Cancel(&b.timer) || w.Cancel(&b.timer) || b.timer.Armed() || w.Len() != 2 {
		t.Fatal("cancelling the middle one failed")
	}
	if !w.Cancel(&c.timer) || !w.Cancel(&a.timer) || w.Len() != 0 {
		t.Fatal("cancelling the others failed")
	}
	wantFired(t, &w, 1000)
	w.Schedule(&b.timer, 1001)
	wantFired(t, &w, 1001, 2)
	if w.Cancel(&b.timer) {
		t.Fatal("armed after it has fired")
	}
}

func TestNext(t *testing.T) {
	var w Wheel[job]
	if _, ok := w.Next(); ok {
		t.Fatal("an empty wheel has a next tick")
	}
	near, far := newJob(1), newJob(2)
	w.Schedule(&far.timer, 1_000_000)
	w.Schedule(&near.timer, 50)
	if tick, ok := w.Next(); !ok || tick != 50 {
		t.Fatalf("next %d, %v; want 50", tick, ok)
	}
	w.Cancel(&near.timer)
	// A caller that sleeps until each next tick in turn gets to the far timer in a few steps and
	// not too late.
	for steps := 0; ; steps++ {
		tick, ok := w.Next()
		if !ok || tick > 1_000_000 || steps > 2*levelCount {
			t.Fatalf("step %d: next %d, %v", steps, tick, ok)
		}
		if ids := fired(&w, tick); len(ids) == 1 {
			if tick != 1_000_000 {
				t.Fatalf("fired at %d", tick)
			}
			break
		}
	}
	if _, ok := w.Next(); ok {
		t.Fatal("an empty wheel has a next tick")
	}
}
