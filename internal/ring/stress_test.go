package ring

import (
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
)

// producer commits count records numbered from 0, of random sizes, whole or in part, and abandons
// some claims.
type producer struct {
	ring   *Ring
	parker *Parker
	id     uint32
	count  int
	random *rand.Rand
	parts  bool
}

func (p *producer) run() {
	for n := 0; n < p.count; {
		size := 16 + p.random.IntN(496)
		c, ok := p.ring.Claim(size)
		if !ok {
			runtime.Gosched()
			continue
		}
		used := size
		if p.parts {
			switch p.random.IntN(4) {
			case 0:
				p.ring.CommitPart(c, 0, 0)
				p.parker.Wake()
				continue
			case 1, 2:
				used = 16 + p.random.IntN(size-15)
			}
		}
		p.fill(c.Buf[:used], n)
		p.ring.CommitPart(c, used, p.id)
		p.parker.Wake()
		n++
	}
}

// fill writes the record's number, its size and bytes that follow from both.
func (p *producer) fill(buf []byte, n int) {
	binary.LittleEndian.PutUint64(buf, uint64(n))
	binary.LittleEndian.PutUint64(buf[8:], uint64(len(buf)))
	for i := range buf[16:] {
		buf[16+i] = byte(n+i) | 1
	}
}

// checkRecord verifies a record against the number that its producer is at.
func checkRecord(t *testing.T, kind uint32, payload []byte, n int) {
	t.Helper()
	if len(payload) < 16 {
		t.Fatalf("producer %d: record of %d bytes", kind, len(payload))
	}
	number, size := binary.LittleEndian.Uint64(payload), binary.LittleEndian.Uint64(payload[8:])
	if number != uint64(n) || size != uint64(len(payload)) {
		t.Fatalf("producer %d: record %d of %d bytes, want %d of %d", kind, number, size, n, len(payload))
	}
	for i, b := range payload[16:] {
		if b != byte(n+i)|1 {
			t.Fatalf("producer %d: record %d differs at byte %d", kind, n, 16+i)
		}
	}
}

// stress runs producers against the consumer's loop of the package comment and checks that each
// producer's records arrive whole, in order and once.
func stress(t *testing.T, producers, count, sizeBytes int, parts bool) {
	r, p := New(sizeBytes), new(Parker)
	var group sync.WaitGroup
	for id := range producers {
		random := rand.New(rand.NewPCG(uint64(id), uint64(count)))
		group.Go((&producer{ring: r, parker: p, id: uint32(id), count: count, random: random, parts: parts}).run)
	}
	seen := make([]int, producers)
	for left := producers * count; left > 0; {
		for range 32 {
			kind, payload, ok := r.Next()
			if !ok {
				break
			}
			checkRecord(t, kind, payload, seen[kind])
			seen[kind]++
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
	wantNone(t, r)
	r.Release()
	if !r.Empty() {
		t.Fatalf("depth %d at the end", r.Depth())
	}
	checkFree(t, r)
}

func TestManyProducers(t *testing.T)           { stress(t, 4, 10_000, MinSize, false) }
func TestManyProducersGivingBack(t *testing.T) { stress(t, 4, 10_000, MinSize, true) }
func TestOneProducer(t *testing.T)             { stress(t, 1, 20_000, MinSize, true) }
func TestManyProducersLargeRing(t *testing.T)  { stress(t, 3, 10_000, 1<<20, true) }

// Depth and Empty may be asked from anywhere at any time, and never answer nonsense.
func TestDepthWhileBusy(t *testing.T) {
	r := New(0)
	stop := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if d := r.Depth(); d < 0 || d > r.Cap() {
				t.Errorf("depth %d of %d", d, r.Cap())
				return
			}
			if r.Empty() {
				runtime.Gosched()
			}
		}
	})
	group.Go(func() {
		for n := range 20_000 {
			c, ok := r.Claim(1 + n%200)
			if !ok {
				runtime.Gosched()
				continue
			}
			r.CommitPart(c, n%len(c.Buf), 0)
		}
		close(stop)
	})
	for done := false; !done; {
		select {
		case <-stop:
			done = true
		default:
		}
		for {
			if _, _, ok := r.Next(); !ok {
				break
			}
		}
		r.Release()
		runtime.Gosched()
	}
	group.Wait()
}
