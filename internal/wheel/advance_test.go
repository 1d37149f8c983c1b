package wheel

import "testing"

func TestFiresInOrderOfDeadlines(t *testing.T) {
	var w Wheel[job]
	deadlines := []int64{70, 3, 5000, 64, 1, 300_000, 4096, 63, 4095, 128}
	for _, d := range deadlines {
		w.Schedule(&newJob(int(d)).timer, d)
	}
	wantFired(t, &w, 1<<40, 1, 3, 63, 64, 70, 128, 4095, 4096, 5000, 300_000)
}

// A callback may cancel or move those that are about to fire in the same Advance, in the same slot
// or a later one.
func TestCallbackCancelsOthers(t *testing.T) {
	for victim := range 5 {
		var w Wheel[job]
		jobs := make([]*job, 5)
		for i := range jobs {
			jobs[i] = newJob(i)
			w.Schedule(&jobs[i].timer, int64(10+i/2))
		}
		count := 0
		w.Advance(100, func(t *Timer[job]) {
			count++
			if count == 1 && t.Owner.id != victim {
				w.Cancel(&jobs[victim].timer)
			} else if count > 1 && t.Owner.id == victim {
				count = -1000
			}
		})
		if count != 4 && count != 5 || w.Len() != 0 || w.due != nil {
			t.Fatalf("victim %d: count %d, %d left", victim, count, w.Len())
		}
		w.Schedule(&jobs[0].timer, 200) // The list of due timers is still sound.
		w.Schedule(&jobs[1].timer, 201)
		wantFired(t, &w, 300, 0, 1)
	}
}

func TestCallbackMovesOthers(t *testing.T) {
	var w Wheel[job]
	a, b, c := newJob(1), newJob(2), newJob(3)
	w.Schedule(&a.timer, 10)
	w.Schedule(&b.timer, 11)
	w.Schedule(&c.timer, 12)
	w.Advance(20, func(t *Timer[job]) {
		if t.Owner == a {
			w.Schedule(&c.timer, 15) // Reached by this Advance, but set during it.
			w.Schedule(&a.timer, 5)
		}
	})
	if b.timer.Armed() || w.Len() != 2 {
		t.Fatalf("%d timers", w.Len())
	}
	if got := fired(&w, 21); len(got) != 2 {
		t.Fatalf("fired %v", got)
	}
}

// A timer that sets itself again at once fires once in each Advance, however long the gap: Advance
// always ends.
func TestCallbackReschedulesItself(t *testing.T) {
	var w Wheel[job]
	j := newJob(1)
	count := 0
	again := func(t *Timer[job]) {
		count++
		w.Schedule(t, 0)
	}
	w.Schedule(&j.timer, 1)
	for i, tick := range []int64{1, 2, 1 << 40, 1<<40 + 1} {
		w.Advance(tick, again)
		if count != i+1 || w.Len() != 1 {
			t.Fatalf("tick %d: fired %d times, %d armed", tick, count, w.Len())
		}
	}
}

func TestPanicInCallback(t *testing.T) {
	var w Wheel[job]
	for i := range 5 {
		w.Schedule(&newJob(i).timer, int64(10+i))
	}
	late := newJob(9)
	func() {
		defer func() { _ = recover() }()
		w.Advance(50, func(t *Timer[job]) {
			if t.Owner.id == 2 {
				panic("callback")
			}
		})
	}()
	if w.Len() != 2 {
		t.Fatalf("%d timers left, want 2", w.Len())
	}
	if tick, ok := w.Next(); !ok || tick != 50 {
		t.Fatalf("next %d, %v: those left are due now", tick, ok)
	}
	w.Schedule(&late.timer, 51)
	wantFired(t, &w, 51, 3, 4, 9)
}

// Timers that a panic left in due can be cancelled like any others, and timers that are reached
// next follow them.
func TestCancelAfterPanic(t *testing.T) {
	for victim := 1; victim < 4; victim++ {
		var w Wheel[job]
		jobs := make([]*job, 4)
		for i := range jobs {
			jobs[i] = newJob(i)
			w.Schedule(&jobs[i].timer, int64(10+i))
		}
		func() {
			defer func() { _ = recover() }()
			w.Advance(50, func(*Timer[job]) { panic("callback") })
		}()
		if !w.Cancel(&jobs[victim].timer) || w.Len() != 2 {
			t.Fatalf("victim %d: %d timers left, want 2", victim, w.Len())
		}
		w.Schedule(&jobs[0].timer, 60)
		var want []int
		for _, id := range []int{1, 2, 3} {
			if id != victim {
				want = append(want, id)
			}
		}
		wantFired(t, &w, 60, append(want, 0)...)
	}
}

// A long gap costs steps in proportion to the timers, not to the ticks: this would not end otherwise.
func TestLongGap(t *testing.T) {
	var w Wheel[job]
	j := newJob(1)
	w.Schedule(&j.timer, 1<<61)
	wantFired(t, &w, 1<<61-1)
	wantFired(t, &w, 1<<62, 1)
}

func TestNoAllocations(t *testing.T) {
	var w Wheel[job]
	jobs := make([]*job, 100)
	for i := range jobs {
		jobs[i] = newJob(i)
	}
	tick := int64(0)
	fire := func(t *Timer[job]) { w.Schedule(t, tick+1_000_000) }
	allocs := testing.AllocsPerRun(100, func() {
		for i, j := range jobs {
			w.Schedule(&j.timer, tick+int64(i*i))
			w.Schedule(&j.timer, tick+int64(i*i*i))
			if i%3 == 0 {
				w.Cancel(&j.timer)
			}
		}
		tick += 10_000
		w.Advance(tick, fire)
	})
	if allocs != 0 {
		t.Fatalf("%v allocations", allocs)
	}
}
