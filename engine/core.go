package engine

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/cpu"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/reactor"
	"github.com/millrace/millrace/internal/ring"
	"github.com/millrace/millrace/internal/wheel"
)

// A core is an event loop, a ring and a consumer of that ring: a pinned worker,
// or the loop itself in Inline dispatch. A session belongs to one core for
// life. Cores share nothing on the hot path.
type core struct {
	engine *Engine
	index  int
	inline bool
	parked bool // the loop sleeps in Go's poller, if it can
	loop   eventLoop
	shared sharedLoop // loop if the worker and the reader run it in turn, else nil
	slots  slots
	stats  coreStats

	// From producers to the consumer.
	ring         *ring.Ring
	parker       ring.Parker // parks a worker that never reads
	drainAsked   atomic.Bool // inline: the loop was triggered to drain the ring
	asleep       atomic.Bool // shared: the worker sleeps in the poller, or is about to
	large        largeTable
	share        int // bytes; a message with a larger record is passed by reference
	stopping     atomic.Bool
	workerExited chan struct{}

	// The roles of the two threads; see core_roles.go.
	roles  atomic.Uint64
	late   atomic.Bool   // the worker's turn has lasted a watch interval
	stuck  atomic.Uint64 // roles, when the watch woke the reader
	reader ring.Parker   // parks the reader
	back   ring.Parker   // parks the worker until the reader has given the reading back

	// Written for each message. In Workers dispatch the fields around it are another CPU's.
	_        cpu.CacheLinePad
	consumer consumer
	turn     uint64 // the upper bits of roles
	lent     bool   // the worker is between lend and reclaim
	_        cpu.CacheLinePad

	// Producers that wait for space in the ring.
	stalled   atomic.Bool  // sockets of the loop wait
	waiters   atomic.Int32 // goroutines that wait
	spaceMu   sync.Mutex
	spaceCond *sync.Cond

	// Owned by the loop.
	readBuf      []byte
	cipherBuf    []byte           // for ciphertext; nil until there is TLS
	inbound      *framing.Message // filled by Decode; in Inline dispatch the consumer's
	records      recordWriter
	decoding     bool   // in socketConn.process
	standIn      bool   // the reader reads
	byRing       bool   // the messages of the rest of the round go through the ring
	spareBuf     []byte // readBuf of the thread that does not read; nil until the reader has read
	spareCipher  []byte
	wheel        wheel.Wheel[socketConn]
	tick         int64         // now, or a little earlier; see tickInterval
	advanced     int64         // the last tick whose timers were fired
	stalledQueue []*socketConn // in the order in which they resume

	timers  atomic.Int64 // armed in wheel, for the ticker
	ticking atomic.Bool  // a tick was triggered and has not run
}

// eventLoop is the part of reactor.Loop that a core uses. Tests replace it to drive
// connections without sockets.
type eventLoop interface {
	Run() error
	Stop() error
	Close() error
	Trigger(task reactor.Task, arg any) error
	Again(h reactor.Handler)
	Register(c *reactor.Conn) error
	Unregister(c *reactor.Conn)

	Read(fd int, b []byte) (int, error)
	Write(fd int, b []byte) (int, error)
	Writev(fd int, bufs [][]byte) (int, error)
	ShutdownWrite(fd int)
	ShutdownBoth(fd int)
	CloseFD(fd int)
}

// maxShare bounds, in bytes, one record in the ring.
const maxShare = 32 << 10

func newCore(e *Engine, index int) (*core, error) {
	loop, err := reactor.Open(&e.table)
	if err != nil {
		return nil, err
	}
	return newCoreOn(e, index, loop), nil
}

func newCoreOn(e *Engine, index int, loop eventLoop) *core {
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
	c.records.core = c
	c.inbound = new(framing.Message)
	if c.inline {
		c.inbound = &c.consumer.m
	} else if shared, ok := loop.(sharedLoop); ok {
		c.shared = shared
		c.roles.Store(workerReads)
	} else {
		c.roles.Store(readerReads)
	}
	return c
}

// start starts the core's threads.
func (c *core) start() {
	e := c.engine
	if c.shared == nil {
		e.running.Add(1)
		go c.runLoop()
	}
	if !c.inline {
		e.running.Add(1)
		go c.runWorker()
	}
	if c.shared != nil {
		e.running.Add(1)
		go c.runReader()
	}
}

// stop makes the core's threads end, after the callbacks that are running. It waits for a
// worker that does not read.
func (c *core) stop() {
	c.wakeWaiters()
	c.stopping.Store(true)
	c.parker.Wake()
	c.reader.Wake()
	if !c.inline && c.shared == nil {
		<-c.workerExited
	}
	_ = c.loop.Stop()
}

// runLoop is the goroutine of the event loop.
func (c *core) runLoop() {
	defer c.engine.running.Done()
	if err := run(c.loop, c.parked); err != nil {
		c.engine.cfg.Logger.Error("event loop ended", "core", c.index, "error", err)
	}
}

// run runs l until it is stopped, parked if that is asked for and possible.
func run(l interface{ Run() error }, parked bool) error {
	if p, ok := l.(interface{ RunParked() error }); ok && parked {
		return p.RunParked()
	}
	return l.Run()
}

// wake makes the consumer check the ring.
func (c *core) wake() {
	switch {
	case c.inline:
	case c.shared == nil:
		c.parker.Wake()
		return
	default:
		if c.asleep.Load() && c.asleep.CompareAndSwap(true, false) {
			_ = c.loop.Trigger(noTask, nil)
		}
		return
	}
	if !c.drainAsked.Load() && c.drainAsked.CompareAndSwap(false, true) {
		_ = c.loop.Trigger(drainTask, c)
	}
}

// noTask ends the loop's sleep.
func noTask(any) error { return nil }

// drainTask consumes the ring of an inline core on the loop, one batch at a time.
func drainTask(arg any) error {
	c := arg.(*core)
	c.drainAsked.Store(false)
	if c.consumer.batch() {
		c.loop.Again((*ringDrain)(c))
	}
	return nil
}

// ringDrain continues an inline core's ring after the other sockets.
type ringDrain core

// OnEvent consumes one more batch.
func (d *ringDrain) OnEvent(reactor.Event) { _ = drainTask((*core)(d)) }

// released is called by the consumer after it has released ring space. It resumes
// waiting producers once the ring and the large table are half empty. An empty ring
// is enough: producers that wait for the ring may have reserved the table's space.
func (c *core) released() {
	if used := c.ring.Depth(); used > c.ring.Cap()/2 || used > 0 && c.large.crowded() {
		return
	}
	if c.waiters.Load() > 0 {
		c.wakeWaiters()
	}
	if c.stalled.Load() && c.stalled.CompareAndSwap(true, false) {
		_ = c.loop.Trigger(resumeStalledTask, c)
	}
}

// stall queues conn until the ring has space. On the loop.
func (c *core) stall(conn *socketConn) {
	if conn.backlog&waiting == 0 {
		conn.backlog |= waiting
		c.stalledQueue = append(c.stalledQueue, conn)
		c.stats.stalls.Add(1)
	}
	c.stalled.Store(true)
	// The consumer may have drained the ring before it could see the flag.
	c.released()
}

// resumeStalledTask resumes every stalled connection, in order. A connection that
// finds the ring full again is queued again.
func resumeStalledTask(arg any) error {
	c := arg.(*core)
	c.byRing = true // else a slow callback of one would delay the others
	queue := c.stalledQueue
	c.stalledQueue = nil
	for _, conn := range queue {
		conn.backlog &^= waiting
		conn.resume()
		conn.checked()
	}
	return nil
}

// wakeWaiters makes goroutines that wait for ring space try again.
func (c *core) wakeWaiters() {
	c.spaceMu.Lock()
	c.spaceCond.Broadcast()
	c.spaceMu.Unlock()
}

// leave undoes the admission of a session and forgets it.
func (c *core) leave(s *Session) {
	if s.listener != nil && s.transport != nil {
		s.listener.policy.leaveProtocol(s.transport.name)
	}
	c.engine.release(s.listener, s.remote.Addr())
	c.forget(s)
}

// forget frees the session's slot; a lookup of its ID then returns nil.
func (c *core) forget(s *Session) {
	if t := s.transport; t != nil {
		t.active.Add(-1)
	}
	c.slots.remove(s.id)
	c.engine.sessionGone()
}
