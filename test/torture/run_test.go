package torture_test

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

// Honest peers, peers on faulty links, and goroutines that make connections, at a time.
const (
	honestPeers  = 10
	unluckyPeers = 8
	cyclers      = 4
)

// schemes are the transports of honest peers; wires those that a TCP link can carry.
var (
	schemes = []string{"tcp", "ws", "quic", "tls", "wss"}
	wires   = []string{"tcp", "ws", "tls", "wss"}
)

// scale is the size of a run.
type scale struct {
	load     time.Duration // how long peers come
	cycles   int           // connections made and ended
	halfOpen int           // handshakes begun at the same time
}

// run is one server with all its peers, and the results.
type run struct {
	t      *testing.T
	scale  scale
	server *server
	ctx    context.Context // ends when no further peers must start
	peers  sync.WaitGroup

	numbers  atomic.Uint64 // of honest peers
	failures atomic.Int64

	// The results.
	honest, unlucky, unmet atomic.Int64 // sessions without faults, with them, and dials that a fault ended
	carried, lost, again   atomic.Int64 // messages
	cycled, halfOpened     atomic.Int64
	injected               [faults]atomic.Int64
	packets                [datagramFaults]atomic.Int64
	hostile                map[string]*atomic.Int64 // visits by kind
	memory                 memory
}

// failf reports a failure. Only the first reports are printed.
func (r *run) failf(format string, args ...any) {
	r.t.Helper()
	if r.failures.Add(1) <= 30 {
		r.t.Errorf(format, args...)
	}
}

// judge reports the result of a sequence for a message.
func (r *run) judge(who string, h head, lost uint32, again bool) {
	if lost > 0 {
		r.lost.Add(int64(lost))
		r.failf("%s: %d messages are missing before message %d of lane %d", who, lost, h.seq, h.lane)
	}
	if again {
		r.again.Add(1)
		r.failf("%s: message %d of lane %d came again", who, h.seq, h.lane)
	}
}

// TestTorture runs every kind of peer at one server at the same time, once for each
// dispatch mode. Promises P1, P4 to P7, P9 and P10, and hazards 1 to 6, 8
// to 15, 19 to 21 and 23 all at once.
func TestTorture(t *testing.T) {
	s := scale{load: 2 * time.Second, cycles: 1_500, halfOpen: 250}
	if *durationFlag > 0 {
		s = scale{load: *durationFlag / 2, cycles: 50_000, halfOpen: 5_000}
	}
	for _, d := range []struct {
		name string
		mode engine.Dispatch
	}{{"workers", engine.Workers}, {"inline", engine.Inline}} {
		t.Run(d.name, func(t *testing.T) {
			r := &run{t: t, scale: s, hostile: map[string]*atomic.Int64{}}
			for _, h := range hostiles {
				r.hostile[h.name] = new(atomic.Int64)
			}
			r.torture(d.mode)
		})
	}
}

// torture is one run, from start to end.
func (r *run) torture(dispatch engine.Dispatch) {
	began := time.Now()
	outside := measure()
	r.server = startServer(r.t, r, dispatch)
	r.warmUp()
	inside := r.rest()
	ctx, cancel := context.WithTimeout(r.t.Context(), r.scale.load)
	r.ctx = ctx
	stopSampling := r.memory.sample(r)
	r.everybody()
	r.peers.Wait()
	cancel()
	stopSampling()

	after := r.rest()
	r.compare("with the server idle", inside, after)
	r.checkSessions()
	st := r.server.Stats()
	if err := r.server.Shutdown(r.t.Context()); err != nil {
		r.failf("shutdown of an idle server: %v", err)
	}
	r.comesBack(outside)
	r.report(dispatch, st, inside, after, time.Since(began))
}

// everybody starts peers of all kinds until the load is over.
func (r *run) everybody() {
	for i := range honestPeers {
		r.keepComing("honest", i, func(c *rand.Rand) { r.honestSession(c, schemes[i%len(schemes)]) })
	}
	for i := range unluckyPeers {
		r.keepComing("unlucky", i, func(c *rand.Rand) { r.unluckySession(c, wires[i%len(wires)], faults) })
	}
	for i := range 2 {
		r.keepComing("shaken", i, r.shakenSession)
	}
	for _, h := range hostiles {
		r.keepComing(h.name, 0, func(c *rand.Rand) {
			h.visit(r, c)
			r.hostile[h.name].Add(1)
			r.nap(time.Duration(c.IntN(50)) * time.Millisecond)
		})
	}
	r.keepComing("half-open", 0, func(c *rand.Rand) { r.holdHandshakes(c, r.scale.halfOpen, true) })
	r.cycle(r.scale.cycles)
}

// keepComing calls visit again and again on one goroutine until the load is
// over, and once at least.
func (r *run) keepComing(lane string, i int, visit func(*rand.Rand)) {
	c := chooser(lane, i)
	r.peers.Go(func() {
		for {
			visit(c)
			if r.ctx.Err() != nil {
				return
			}
		}
	})
}

// nap waits, but not beyond the load.
func (r *run) nap(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.ctx.Done():
	}
}

// warmUp runs each kind of peer once, so that resources that the process allocates only
// once don't count as a leak.
func (r *run) warmUp() {
	ctx, cancel := context.WithCancel(r.t.Context())
	cancel()
	r.ctx = ctx
	for i, scheme := range schemes {
		r.keepComing("warm", i, func(c *rand.Rand) { r.honestSession(c, scheme) })
	}
	r.keepComing("warm-shaken", 0, r.shakenSession)
	for i, scheme := range wires {
		r.keepComing("warm-unlucky", i, func(c *rand.Rand) { r.unluckySession(c, scheme, cut) })
	}
	for _, h := range hostiles {
		if !h.slow {
			r.keepComing("warm-"+h.name, 0, func(c *rand.Rand) { h.visit(r, c) })
		}
	}
	r.keepComing("warm-half-open", 0, func(c *rand.Rand) { r.holdHandshakes(c, r.scale.halfOpen, false) })
	r.peers.Wait()
}

// honestSession is one session without faults.
func (r *run) honestSession(c *rand.Rand, scheme string) {
	p := newPeer(r, c, scheme)
	p.ending = ending(c.IntN(3))
	if err := p.dial(r.server.addr); err != nil {
		r.failf("%s: an honest peer isn't served: %v; refused so far: %v", scheme, err, r.server.Stats().Refused)
		return
	}
	p.converse(func() {})
	r.honest.Add(1)
}

// unluckySession is one session over a link with faults below most.
func (r *run) unluckySession(c *rand.Rand, scheme string, most fault) {
	up, down := newPlan(c, fault(c.IntN(int(most)))), newPlan(c, fault(c.IntN(int(most))))
	k, err := newLink(r, r.server.addr, up, down)
	if err != nil {
		r.failf("no link: %v", err)
		return
	}
	defer k.close()
	p := newPeer(r, c, scheme)
	p.lossy = up.fault.lossy() || down.fault.lossy()
	p.hears = scheme == "tcp" && up.fault == halfClose && !down.fault.lossy()
	if c.IntN(2) == 0 {
		p.ending = asked
	}
	if err := p.dial(k.addr()); err != nil {
		if !p.lossy {
			r.failf("%s over %s, %s: %v", scheme, faultNames[up.fault], faultNames[down.fault], err)
		}
		r.unmet.Add(1)
		return
	}
	p.converse(k.close)
	r.unlucky.Add(1)
	// Promise P9: messages that the server got before the half-close are answered.
	if p.hears && marks(&p.answered) != marks(&p.account.received) {
		r.failf("half-closed, %s back: received %v, answered %v, the client's reason %v, the server's %v", faultNames[down.fault],
			marks(&p.account.received), marks(&p.answered), p.c.Err(), p.serverReason())
	}
}

// shakenSession is one QUIC session whose datagrams are lost, repeated, late and
// out of order. No message of it may be missing.
func (r *run) shakenSession(c *rand.Rand) {
	k, err := newShaker(r, r.server.addr, c.Uint64())
	if err != nil {
		r.failf("no shaker: %v", err)
		return
	}
	defer k.close()
	p := newPeer(r, c, "quic")
	p.shaken = true
	if err := p.dial(k.addr()); err != nil {
		r.failf("quic over a shaker: %v", err)
		return
	}
	p.converse(func() {})
	r.unlucky.Add(1)
}

// checkSessions checks that every session had one OnOpen and one OnClose, and that each
// kind of fault and of hostile peer occurred.
func (r *run) checkSessions() {
	if o, c := r.server.opened.Load(), r.server.closed.Load(); o != c || o == 0 {
		r.failf("%d times OnOpen, %d times OnClose", o, c)
	}
	r.server.accounts.Range(func(k, v any) bool {
		if a := v.(*account); a.opened.Load() != a.closed.Load() {
			r.failf("peer %d: %d times opened, %d times closed", k, a.opened.Load(), a.closed.Load())
		}
		return true
	})
	for _, name := range slices.Sorted(maps.Keys(r.hostile)) {
		if r.hostile[name].Load() == 0 {
			r.failf("no visit of %s", name)
		}
	}
	if r.honest.Load() < int64(len(schemes)) || r.cycled.Load() < int64(r.scale.cycles) {
		r.failf("%d honest sessions, %d cycles", r.honest.Load(), r.cycled.Load())
	}
}
