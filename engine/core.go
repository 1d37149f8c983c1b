package engine

import (
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/cpu"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/reactor"
	"github.com/millrace/millrace/internal/ring"
	"github.com/millrace/millrace/internal/wheel"
)

// tickInterval is the resolution of session deadlines.
const tickInterval = 50 * time.Millisecond

// A core is an event loop, a ring and a consumer of that ring: a pinned worker,
// or the loop itself in Inline dispatch. A session belongs to one core for
// life. Cores share nothing on the hot path.
type core struct {
	engine *Engine
	index  int
	inline bool
	loop   *reactor.Loop
	slots  slots
	stats  coreStats

	// From producers to the consumer.
	ring         *ring.Ring
	parker       ring.Parker // where a worker sleeps; unused inline
	drainAsked   atomic.Bool // inline: the loop was triggered to drain the ring
	large        largeTable
	share        int // bytes: a message whose record is larger travels by reference
	stopping     atomic.Bool
	workerExited chan struct{}

	// Written for each message, on a worker by another CPU than reads the rest.
	_        cpu.CacheLinePad
	consumer consumer
	_        cpu.CacheLinePad

	// Producers that wait for room in the ring.
	stalled   atomic.Bool  // the loop waits
	waiters   atomic.Int32 // goroutines that wait
	spaceMu   sync.Mutex
	spaceCond *sync.Cond

	// Owned by the loop.
	readBuf      []byte
	cipherBuf    []byte           // for ciphertext; nil until there is TLS
	inbound      *framing.Message // what Decode fills: inline, the consumer's
	batch        batch
	decoding     bool // in Session.process
	wheel        wheel.Wheel[Session]
	tick         int64      // now, or a little earlier; see tickInterval
	advanced     int64      // of the last tick whose timers were fired
	stalledQueue []*Session // in the order in which they go on

	timers  atomic.Int64 // armed in wheel, for the ticker
	ticking atomic.Bool  // a tick was triggered and has not run
}

func newCore(e *Engine, index int) (*core, error) {
	loop, err := reactor.Open(&e.table)
	if err != nil {
		return nil, err
	}
	c := &core{
		engine:       e,
		index:        index,
		inline:       e.cfg.Dispatch == Inline,
		loop:         loop,
		ring:         ring.New(e.cfg.RingSize),
		readBuf:      make([]byte, e.cfg.ReadBufferSize),
		workerExited: make(chan struct{}),
	}
	c.share = min(c.ring.MaxRecord()/4, maxShare)
	c.large.limit = max(c.ring.Cap(), e.cfg.MaxMessageSize)
	c.spaceCond = sync.NewCond(&c.spaceMu)
	c.consumer.core = c
	c.consumer.handler = e.cfg.Handler
	c.batch.core = c
	c.inbound = new(framing.Message)
	if c.inline {
		c.inbound = &c.consumer.m
	}
	return c, nil
}

// maxShare bounds what one record takes of the ring.
const maxShare = 32 << 10

// wake tells the consumer that the ring has something for it.
func (c *core) wake() {
	if !c.inline {
		c.parker.Wake()
		return
	}
	if !c.drainAsked.Load() && c.drainAsked.CompareAndSwap(false, true) {
		_ = c.loop.Trigger(drainTask, c)
	}
}

// drainTask consumes the ring on the loop, one batch a turn.
func drainTask(arg any) error {
	c := arg.(*core)
	c.drainAsked.Store(false)
	if c.consumer.batch() {
		c.loop.Again((*ringDrain)(c))
	}
	return nil
}

// ringDrain is the inline core's turn to go on with its ring after the sockets
// had theirs.
type ringDrain core

// OnEvent consumes one more batch.
func (d *ringDrain) OnEvent(reactor.Event) { _ = drainTask((*core)(d)) }

// released is called by the consumer after it gave ring space back, and lets
// waiting producers go on once the ring is half empty.
func (c *core) released() {
	if c.ring.Depth() > c.ring.Cap()/2 || c.large.crowded() {
		return
	}
	if c.waiters.Load() > 0 {
		c.spaceMu.Lock()
		c.spaceCond.Broadcast()
		c.spaceMu.Unlock()
	}
	if c.stalled.Load() && c.stalled.CompareAndSwap(true, false) {
		_ = c.loop.Trigger(resumeStalledTask, c)
	}
}

// stall queues s until the ring has room. On the loop.
func (c *core) stall(s *Session) {
	if !s.stalled {
		s.stalled = true
		c.stalledQueue = append(c.stalledQueue, s)
		c.stats.stalls.Add(1)
	}
	c.stalled.Store(true)
	// The consumer may have drained the ring before it could see the flag.
	c.released()
}

// resumeStalledTask lets every stalled session go on, in order; those that
// find the ring full again queue up again.
func resumeStalledTask(arg any) error {
	c := arg.(*core)
	queue := c.stalledQueue
	c.stalledQueue = nil
	for _, s := range queue {
		s.stalled = false
		s.goOn()
	}
	return nil
}

// claim reserves n bytes of the ring, waiting for room as long as alive says
// so. For goroutines that may block.
func (c *core) claim(n int, alive func() error) (ring.Claim, error) {
	if cl, ok := c.ring.Claim(n); ok {
		return cl, nil
	}
	c.spaceMu.Lock()
	defer c.spaceMu.Unlock()
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	for {
		if cl, ok := c.ring.Claim(n); ok {
			return cl, nil
		}
		if err := alive(); err != nil {
			return ring.Claim{}, err
		}
		c.spaceCond.Wait()
	}
}

// wakeWaiters makes goroutines that wait for room look again whether they
// still should.
func (c *core) wakeWaiters() {
	c.spaceMu.Lock()
	c.spaceCond.Broadcast()
	c.spaceMu.Unlock()
}

// runLoop is the goroutine of the event loop.
func (c *core) runLoop() {
	defer c.engine.running.Done()
	defer c.engine.callbacks.enter()()
	if c.inline {
		c.consumer.goroutine.Store(goroutineID())
	}
	if err := c.loop.Run(); err != nil {
		c.engine.cfg.Logger.Error("event loop ended", "core", c.index, "error", err)
	}
}
