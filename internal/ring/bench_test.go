package ring

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
)

// BenchmarkAlone is the cost of the instructions: one goroutine produces batches of 64 records and
// consumes them.
func BenchmarkAlone(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			r, message := New(1<<20), make([]byte, size)
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for done := 0; done < b.N; done += 64 {
				for range 64 {
					c, _ := r.Claim(size)
					copy(c.Buf, message)
					r.Commit(c, 1)
				}
				for {
					if _, _, ok := r.Next(); !ok {
						break
					}
				}
				r.Release()
			}
		})
	}
}

// BenchmarkThroughput is one consumer, parking when idle, against one producer or more, each on a
// thread of its own as far as there are CPUs. A producer that finds the ring full yields.
func BenchmarkThroughput(b *testing.B) {
	for _, producers := range []int{1, 2} {
		for _, size := range []int{64, 1024} {
			b.Run(fmt.Sprintf("producers=%d/bytes=%d", producers, size), func(b *testing.B) {
				benchmarkThroughput(b, producers, size)
			})
		}
	}
}

func benchmarkThroughput(b *testing.B, producers, size int) {
	r, p := New(1<<20), new(Parker)
	var group sync.WaitGroup
	b.ReportAllocs()
	b.SetBytes(int64(size))
	for i := range producers {
		count := b.N / producers
		if i == 0 {
			count += b.N % producers
		}
		group.Go(func() {
			message := make([]byte, size)
			for n := 0; n < count; {
				c, ok := r.Claim(size)
				if !ok {
					runtime.Gosched()
					continue
				}
				copy(c.Buf, message)
				r.Commit(c, 1)
				p.Wake()
				n++
			}
		})
	}
	for left := b.N; left > 0; {
		for range 256 {
			if _, _, ok := r.Next(); !ok {
				break
			}
			left--
		}
		r.Release()
		if left == 0 || r.Ready() {
			continue
		}
		p.Arm()
		if r.Ready() {
			p.Disarm()
		} else {
			p.Park()
		}
	}
	group.Wait()
	b.ReportMetric(float64(p.Parks())/float64(b.N), "parks/op")
}

// BenchmarkWakeIdle is the cost of Wake if the consumer is awake.
func BenchmarkWakeIdle(b *testing.B) {
	var p Parker
	b.ReportAllocs()
	for b.Loop() {
		p.Wake()
	}
}

// BenchmarkHandOver is a wake-up there and one back, between a goroutine locked to its thread, as a
// worker is, and one that isn't; "channel" is the same through the scheduler.
func BenchmarkHandOver(b *testing.B) {
	b.Run("parker", func(b *testing.B) {
		var there, back Parker
		there.Arm()
		back.Arm()
		handOver(b, there.Park, func() { back.Arm(); there.Wake() }, back.Park, func() { there.Arm(); back.Wake() })
	})
	b.Run("channel", func(b *testing.B) {
		there, back := make(chan struct{}, 1), make(chan struct{}, 1)
		handOver(b, func() { <-there }, func() { there <- struct{}{} }, func() { <-back }, func() { back <- struct{}{} })
	})
}

// handOver runs wait-there, wake-back on a locked thread against wake-there, wait-back on the
// benchmark's goroutine.
func handOver(b *testing.B, waitThere, wakeThere, waitBack, wakeBack func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for range b.N {
			waitThere()
			wakeBack()
		}
	}()
	b.ReportAllocs()
	for range b.N {
		wakeThere()
		waitBack()
	}
	<-done
}
