package torture_test

import (
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/testkit"
)

// usage is the resources of this process: the server and all its peers.
type usage struct {
	heap        int64 // bytes, right after a collection
	resident    int64 // bytes
	goroutines  int
	descriptors int
}

// measure collects twice, because the second collection frees the buffers of pools.
func measure() usage {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return usage{int64(m.HeapAlloc), testkit.ResidentBytes(os.Getpid()), runtime.NumGoroutine(), testkit.Descriptors(os.Getpid())}
}

func (u usage) String() string {
	return fmt.Sprintf("heap %.1f MiB, RSS %.1f MiB, %d goroutines, %d descriptors",
		mebi(u.heap), mebi(u.resident), u.goroutines, u.descriptors)
}

func mebi(n int64) float64 { return float64(n) / (1 << 20) }

// heapSlack is the allowed growth of the heap after a run, for tables that grew to the
// run's peak. Forty bytes for each of 100,000 connections are too much.
const heapSlack = 4 << 20

// rest waits until the server has no session left, and measures.
func (r *run) rest() usage {
	if !testkit.Poll(testkit.Patience, func() bool { return r.server.Stats().Active == 0 }) {
		r.failf("%d sessions are left", r.server.Stats().Active)
	}
	before := measure()
	for range 100 { // goroutines of ended connections go a little later
		time.Sleep(20 * time.Millisecond)
		u := measure()
		if u.goroutines == before.goroutines && u.descriptors == before.descriptors {
			return u
		}
		before = u
	}
	return before
}

// compare checks that the usage is the same as before. It waits for slow ends.
func (r *run) compare(when string, before, after usage) {
	ok := testkit.Poll(testkit.Patience, func() bool {
		if after.descriptors <= before.descriptors && after.goroutines <= before.goroutines && after.heap <= before.heap+heapSlack {
			return true
		}
		after = measure()
		return false
	})
	if !ok {
		r.failf("%s: resources are left:\nbefore: %v\nafter:  %v", when, before, after)
		stacks := make([]byte, 64<<10)
		r.t.Logf("%s", stacks[:runtime.Stack(stacks, true)])
	}
}

// comesBack checks that the server, after its shutdown, holds no resources.
func (r *run) comesBack(before usage) {
	if n := r.server.Stats().Active; n != 0 {
		r.failf("%d sessions after Shutdown", n)
	}
	// Resources that the process allocates only once (the runtime's poller, caches of
	// packages that the first run used) aren't a leak: only the first run may grow.
	before.descriptors += 2
	r.compare("after the shutdown", before, measure())
}

// heapBound is the most that the heap may hold, from the server's limits and
// the number of peers. It also returns the terms of the sum.
func (r *run) heapBound() (total int64, sum string) {
	cfg := r.server.Config()
	// A core: its ring, the large messages beside it, two read buffers.
	core := cfg.RingSize + max(cfg.RingSize, cfg.MaxMessageSize) + cfg.MaxMessageSize + 2*cfg.ReadBufferSize
	// A session that carries data: an unfinished message and its outbox, both in
	// blocks that are powers of two; TLS's sealed bytes, handshake and records.
	session := 2*(cfg.MaxMessageSize+64<<10) + 2*cfg.OutboxLimit + 128<<10 + 64<<10 + 32<<10
	// Each peer may have one session, and one before it that is still ending.
	sessions := 2 * (honestPeers + unluckyPeers + 2 + len(hostiles) + cyclers)
	// A QUIC connection that vanished keeps its window until IdleTimeout.
	vanished := int(limits.IdleTimeout/vanishEvery) + 1
	vanishedSize := quicWindow + 128<<10
	// A half-open handshake: its first bytes, the session, crypto/tls's state,
	// and the peer's half of the connection.
	const halfOpen = 64 << 10
	// A peer of ours: its events (client.DefaultMaxEventBytes), window, link and
	// buffers; and the engine that clients share.
	const client, hub = 2 << 20, 16 << 20
	clients := sessions / 2
	const base = 16 << 20 // the runtime, certificates, tables, the test itself
	total = int64(base + cfg.Cores*core + sessions*session + vanished*vanishedSize + r.scale.halfOpen*halfOpen + clients*client + hub)
	sum = fmt.Sprintf("%d cores x %d KiB + %d sessions x %d KiB + %d vanished x %d KiB + "+
		"%d half-open x %d KiB + %d peers x %d KiB + %d MiB = %.0f MiB",
		cfg.Cores, core>>10, sessions, session>>10, vanished, vanishedSize>>10, r.scale.halfOpen, halfOpen>>10,
		clients, client>>10, (base+hub)>>20, mebi(total))
	return total, sum
}

// residentBound is the bound of RSS for a heap of that bound: the heap may double
// before the garbage collector runs, and stacks and the program itself are added.
func residentBound(heap int64) int64 { return 5*heap/2 + 128<<20 }

// memory has the figures of the sampler.
type memory struct {
	heaps []int64
	most  usage // the most of each
}

// sample measures again and again until the returned function is called, which
// also checks that memory stayed bounded and didn't grow with time.
func (m *memory) sample(r *run) (stop func()) {
	every := 250 * time.Millisecond
	if r.scale.load > time.Minute {
		every = time.Second
	}
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				m.add(measure(), r)
			}
		}
	})
	return func() {
		close(done)
		work.Wait()
		m.judgeTrend(r)
	}
}

func (m *memory) add(u usage, r *run) {
	m.heaps = append(m.heaps, u.heap)
	m.most.heap = max(m.most.heap, u.heap)
	m.most.resident = max(m.most.resident, u.resident)
	m.most.goroutines = max(m.most.goroutines, u.goroutines)
	m.most.descriptors = max(m.most.descriptors, u.descriptors)
	bound, sum := r.heapBound()
	if u.heap > bound {
		r.failf("the heap holds %.0f MiB, more than %s", mebi(u.heap), sum)
	}
	// The race detector uses several bytes for each byte of the program.
	if !testkit.RaceEnabled && u.resident > residentBound(bound) {
		r.failf("the process holds %.0f MiB, more than %.0f", mebi(u.resident), mebi(residentBound(bound)))
	}
}

// judgeTrend compares the second quarter of a run with the last one: the same
// load must not need more and more.
func (m *memory) judgeTrend(r *run) {
	q := len(m.heaps) / 4
	if q < 15 {
		return
	}
	early, late := median(m.heaps[q:2*q]), median(m.heaps[3*q:])
	if late > early+early/4+16<<20 {
		r.failf("the heap grows with time: median %.1f MiB in the second quarter, %.1f MiB in the last", mebi(early), mebi(late))
	}
}

func median(n []int64) int64 {
	s := slices.Sorted(slices.Values(n))
	return s[len(s)/2]
}
