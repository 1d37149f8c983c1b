package engine

import (
	"runtime"

	"github.com/millrace/millrace/internal/reactor"
)

// A core with Workers dispatch has two threads and two roles. The worker runs the
// callbacks, always. Reading, which is to run the event loop, is the worker's too as long
// as callbacks are short: then a message needs no second thread. Around callbacks the
// worker lends the reading. If it has not taken it back a watch interval later (see
// watch), the reader, which sleeps otherwise, takes over: it reads, writes and runs tasks
// and deadlines, and puts messages into the ring, until the worker has emptied the ring
// and recalls it.
//
//	worker reads ── lend ──> lent ── reclaim ──> worker reads
//	                          │
//	                          └── the reader takes it ──> reader reads ── recall ──> worker reads
//
// core.roles holds the role in its lower bits and the worker's turn above them. The worker
// changes the turn whenever it makes progress: at each round of events and each batch of
// the ring. So the watch sees a turn that lasts, without a clock. A turn that lasts also
// makes the worker flush the replies that it has collected, and put the rest of the
// round's messages into the ring, where they do not delay the reading.
//
// The owner of the reading owns all that core and socketConn call "owned by the loop",
// but for the connection whose messages the worker is handling in place: its handling bit
// makes the reader leave it alone. The atomic operations on roles order the accesses of
// the two threads.
//
// No message stays in the ring without a wake-up. Before the worker sleeps in the poller it
// stores asleep, and then checks the ring. Other goroutines put their message into the
// ring, and then check asleep: if it is set, they trigger a task in the loop, which ends
// the sleep. Messages that the loop itself puts there come before the worker's check.
//
// Where the poller cannot be handed over (see reactor.RunRounds), the reader always reads.
const (
	workerReads uint64 = iota + 1
	readingLent
	readerReads

	roleMask = 3
	oneTurn  = roleMask + 1
)

// sharedLoop is an eventLoop that two threads can run in turn.
type sharedLoop interface {
	eventLoop
	RunRounds(r reactor.Rounds) error
	Substitute() error
	Recall()
	Recalled()
}

// roundBatches is how many batches of the ring the worker handles before it polls again.
const roundBatches = 4

// RoundBegins implements reactor.Rounds.
func (c *core) RoundBegins() {
	c.turn += oneTurn
	c.roles.Store(c.turn | workerReads)
	if c.late.Load() { // of the last turn
		c.late.Store(false)
	}
	if c.asleep.Load() {
		c.asleep.Store(false)
	}
}

// MaySleep implements reactor.Rounds.
func (c *core) MaySleep() bool {
	c.asleep.Store(true)
	return !c.ring.Ready()
}

// RoundEnds implements reactor.Rounds: it handles the records that the round, or other
// goroutines, have put into the ring.
func (c *core) RoundEnds() (more bool) {
	c.byRing = false
	for range roundBatches {
		if !c.ring.Ready() {
			return false
		}
		c.turn += oneTurn
		c.lend(nil)
		c.consumer.batch()
		if c.taken() {
			for c.consumer.batch() {
				c.nextTurn()
			}
		}
		c.reclaim(nil)
	}
	return c.ring.Ready()
}

// nextTurn begins another turn while the reader may be reading.
func (c *core) nextTurn() {
	c.turn += oneTurn
	for {
		w := c.roles.Load()
		if c.roles.CompareAndSwap(w, c.turn|w&roleMask) {
			break
		}
	}
	c.engine.watch.Wake()
}

// direct reports whether the loop's goroutine may call the handler for the messages it
// decodes. If not, they go into the ring: behind others, or because the loop's goroutine
// is not the worker, or because the round has lasted a watch interval already. On the loop.
func (c *core) direct() bool {
	switch {
	case c.inline:
		return true
	case c.shared == nil || c.standIn || c.byRing:
		return false
	case c.late.Load():
		c.late.Store(false)
		c.byRing = true
		return false
	}
	return c.ring.Empty()
}

// consumes reports whether the loop's goroutine runs callbacks. On the loop.
func (c *core) consumes() bool { return c.inline || c.shared != nil && !c.standIn }

// lend lets the reader take over from now on. conn, if it is not nil, is the connection
// whose messages are about to be handled in place. By the worker, while it reads.
func (c *core) lend(conn *socketConn) {
	if c.shared == nil {
		return
	}
	if conn != nil {
		conn.backlog |= handling
	}
	c.lent = true
	c.roles.Store(c.turn | readingLent)
	c.engine.watch.Wake()
}

// taken reports whether the reader has taken over since lend.
func (c *core) taken() bool { return c.shared != nil && c.roles.Load()&roleMask == readerReads }

// reclaim ends what lend began. If the reader has taken over, it waits, for some
// microseconds, until the reader has given the reading back. conn is lend's.
func (c *core) reclaim(conn *socketConn) {
	if !c.lent {
		return
	}
	c.lent = false
	taken := !c.roles.CompareAndSwap(c.turn|readingLent, c.turn|workerReads)
	if taken {
		c.takeBack()
	}
	if conn == nil {
		return
	}
	conn.backlog &^= handling
	if taken { // the reader has left its steps to the worker
		_ = c.loop.Trigger(settleTask, conn)
		_ = c.loop.Trigger(resumeTask, conn)
	}
}

// takeBack recalls the reader and waits for it.
func (c *core) takeBack() {
	c.shared.Recall()
	for {
		c.back.Arm()
		if c.roles.Load()&roleMask == workerReads {
			c.back.Disarm()
			break
		}
		c.back.Park()
	}
	c.shared.Recalled()
	c.standIn = false
}

// runReader is the goroutine of a core's reader.
func (c *core) runReader() {
	defer c.engine.running.Done()
	runtime.LockOSThread()
	for {
		c.reader.Arm()
		if c.stopping.Load() {
			return
		}
		c.reader.Park()
		if c.takeOver() {
			if err := c.shared.Substitute(); err != nil {
				c.engine.cfg.Logger.Error("event loop ended", "core", c.index, "error", err)
			}
			c.giveBack()
		}
	}
}

// takeOver takes the reading, if the worker is still in the turn that the watch has seen.
// The worker may be using the buffers, so the reader continues with others.
func (c *core) takeOver() bool {
	w := c.stuck.Load()
	if w&roleMask != readingLent || !c.roles.CompareAndSwap(w, w&^roleMask|readerReads) {
		return false
	}
	c.stats.takeovers.Add(1)
	c.standIn, c.decoding = true, false
	if c.spareBuf == nil {
		c.spareBuf = make([]byte, len(c.readBuf))
	}
	c.readBuf, c.spareBuf = c.spareBuf, c.readBuf
	c.cipherBuf, c.spareCipher = c.spareCipher, c.cipherBuf
	return true
}

// giveBack gives the reading to the worker.
func (c *core) giveBack() {
	for {
		w := c.roles.Load()
		if c.roles.CompareAndSwap(w, w&^roleMask|workerReads) {
			break
		}
	}
	c.back.Wake()
}
