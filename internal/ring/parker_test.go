package ring

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hangLimit is long after which a test calls something hung that should have ended in microseconds.
const hangLimit = time.Minute

func waitOrFail(t *testing.T, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(hangLimit):
		t.Fatal(what)
	}
}

func TestParkWithoutCauseReturns(t *testing.T) {
	var p Parker
	p.Park() // Not armed.
	p.Wake()
	p.Park() // A wake-up before Arm isn't kept, but there is no need to sleep either.
	p.Arm()
	p.Disarm()
	p.Park()
	p.Arm()
	p.Wake()
	p.Park() // Woken between Arm and Park.
	if p.Parks() != 0 {
		t.Fatalf("%d parks", p.Parks())
	}
}

// A wake-up before Arm, or one that comes late, must not end the next sleep, or a consumer would
// burn a turn for each.
func TestParkSleepsUntilWake(t *testing.T) {
	var p Parker
	var woken atomic.Bool
	done := make(chan struct{})
	p.Wake()
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		p.Arm()
		p.Park()
		if !woken.Load() {
			t.Error("woken without Wake")
		}
	}()
	for p.Parks() == 0 {
		runtime.Gosched()
	}
	time.Sleep(20 * time.Millisecond) // Long enough to fall asleep; the test is right without it too.
	for range 3 {
		p.sleep.wake(&p.state) // The last step of a delayed waker; it was meant for an earlier sleep.
		time.Sleep(time.Millisecond)
	}
	woken.Store(true)
	p.Wake()
	waitOrFail(t, done, "Wake didn't wake")
	if p.Parks() != 1 {
		t.Fatalf("%d parks", p.Parks())
	}
}

// The collector stops the world: a thread asleep in Park must not hold that up.
func TestParkLetsCollectorRun(t *testing.T) {
	var p Parker
	parked, collected := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(parked)
		p.Arm()
		p.Park()
	}()
	for p.Parks() == 0 {
		runtime.Gosched()
	}
	go func() {
		defer close(collected)
		for range 5 {
			runtime.GC()
		}
	}()
	waitOrFail(t, collected, "the collector waits for a parked thread")
	p.Wake()
	waitOrFail(t, parked, "Wake didn't wake")
}

// Two threads hand a record to and fro, each asleep while the other has it; a single lost wake-up
// stops both for good.
func TestNoLostWakeUps(t *testing.T) {
	const rounds = 50_000
	var rings [2]*Ring
	var parkers [2]Parker
	rings[0], rings[1] = New(0), New(0)
	player := func(me int) {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for n := range uint32(rounds) {
			for {
				if kind, _, ok := rings[me].Next(); ok {
					if kind != n {
						t.Errorf("player %d: record %d, want %d", me, kind, n)
					}
					rings[me].Release()
					break
				}
				parkers[me].Arm()
				if rings[me].Ready() {
					parkers[me].Disarm()
				} else {
					parkers[me].Park()
				}
			}
			for range n % 64 {
				rings[me].Empty() // Shifts the two threads' steps against each other.
			}
			if me == 1 && n == rounds-1 {
				return // The other has had its last record.
			}
			next := n + uint32(me)
			c, _ := rings[1-me].Claim(8)
			rings[1-me].Commit(c, next)
			parkers[1-me].Wake()
		}
	}
	done := make(chan struct{})
	var group sync.WaitGroup
	put(t, rings[0], 0, "serve")
	group.Go(func() { player(0) })
	group.Go(func() { player(1) })
	go func() {
		group.Wait()
		close(done)
	}()
	waitOrFail(t, done, "a wake-up was lost")
}

// Several producers wake one consumer at a time: each of their records is handled though most
// wake-ups do nothing.
func TestManyWakers(t *testing.T) {
	const producers, count = 3, 20_000
	var p Parker
	var work atomic.Int64
	var group sync.WaitGroup
	for range producers {
		group.Go(func() {
			for n := range count {
				work.Add(1)
				p.Wake()
				if n%100 == 0 {
					runtime.Gosched()
				}
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for handled := int64(0); handled < producers*count; {
			if n := work.Swap(0); n > 0 {
				handled += n
				continue
			}
			p.Arm()
			if work.Load() > 0 {
				p.Disarm()
			} else {
				p.Park()
			}
		}
	}()
	waitOrFail(t, done, "a wake-up was lost")
	group.Wait()
}
