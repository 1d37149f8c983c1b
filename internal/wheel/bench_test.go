package wheel

import "testing"

// Each operation moves one of a million idle sessions' timers an hour ahead, and now and then time
// goes on.
func BenchmarkReschedule(b *testing.B) {
	var w Wheel[job]
	jobs := make([]job, 1_000_000)
	for i := range jobs {
		jobs[i].timer.Owner = &jobs[i]
		w.Schedule(&jobs[i].timer, int64(1+i%72_000))
	}
	tick := int64(0)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w.Schedule(&jobs[i*7919%len(jobs)].timer, tick+72_000)
		if i%4096 == 0 {
			tick++
			w.Advance(tick, func(t *Timer[job]) { w.Schedule(t, tick+72_000) })
		}
	}
}

// Each operation is the whole life of a timer: set at a minute or more, carried down the levels,
// fired.
func BenchmarkScheduleAndFire(b *testing.B) {
	var w Wheel[job]
	jobs := make([]job, 1024)
	fired, tick := 0, int64(0)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		w.Schedule(&jobs[i%len(jobs)].timer, tick+1200+int64(i%1024))
		if i%len(jobs) == len(jobs)-1 {
			tick += 2300
			w.Advance(tick, func(*Timer[job]) { fired++ })
		}
	}
	if b.N >= len(jobs) && fired == 0 {
		b.Fatal("nothing fired")
	}
}

// Each operation is a tick of a wheel whose timers are all far away.
func BenchmarkAdvanceIdle(b *testing.B) {
	var w Wheel[job]
	jobs := make([]job, 10_000)
	for i := range jobs {
		w.Schedule(&jobs[i].timer, 1<<40+int64(i))
	}
	tick := int64(0)
	b.ReportAllocs()
	for b.Loop() {
		tick++
		w.Advance(tick, func(*Timer[job]) {})
	}
}
