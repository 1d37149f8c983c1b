package quicbridge

import (
	"fmt"
	"sync"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// An intake bounds the memory in which the streams of one connection are read
// (Config.ReadMemory), and finds packets that are begun and not finished in time
// (engine.Config.PartialTimeout). Each reader has a holding, its share of the
// memory:
//
//	parked ──resume──> busy ──grow──> waiting, for memory that a busy reader holds
//	   ^                │  ^             │
//	   └──────park──────┘  └─────────────┘
//
// A parked reader waits for its peer, and holds a buffer only if a packet is
// incomplete. A busy reader reads, delivers, or waits for the handler, for
// Session.Resume or for the peer to read replies; it frees memory without receiving
// more. So a reader that finds no memory waits while another one is busy. If none
// is busy, incomplete packets hold all memory, and the connection is closed with
// errUnfinished. Waiting could then last for ever: unread data fills the
// connection's window, and the rest of those packets needs that window.
type intake struct {
	conn    *conn
	limit   int           // bytes
	timeout time.Duration // of an incomplete packet; 0 means none

	mu      sync.Mutex // guards the fields below
	freed   sync.Cond  // memory was freed, or no reader is busy any more
	held    int        // bytes of all holdings
	busy    int        // readers
	waiting int        // readers
	closed  bool       // the connection has ended
	partial *holding   // list of those parked with an incomplete packet; doubly linked
	timer   *time.Timer
	armed   bool
	seen    uint64 // conn.delivered at the last check
}

// holding is one reader's part of an intake. Guarded by intake.mu, except that
// the reader itself reads bytes and resets mark.
type holding struct {
	bytes      int
	mark       int           // bytes of the incomplete packet when its timeout began; 0 for none
	since      time.Duration // when its timeout began, after conn.begun
	elapsed    time.Duration // how much of its timeout had passed when the reader last became busy
	linked     bool
	prev, next *holding
}

const (
	// partialProgress is how many bytes of an incomplete packet must arrive within
	// PartialTimeout, unless its end arrives.
	partialProgress = 16 << 10

	// partialChecks is how often within PartialTimeout the incomplete packets of a
	// connection are checked.
	partialChecks = 4

	// smallShare is the part of an intake that is reserved for buffers of up to
	// burstSize, as a divisor. So small packets are not blocked by large ones.
	smallShare = 8
)

// errUnfinished ends a connection whose peer has begun too many packets without
// finishing them.
var errUnfinished = fmt.Errorf("%w: %w: the packets that are begun and not finished take more than Config.ReadMemory",
	engine.ErrProtocol, engine.ErrTooLarge)

func (in *intake) init(c *conn) {
	in.conn = c
	in.freed.L = &in.mu
	in.timeout = c.limits.PartialTimeout
	in.limit = max(c.config.ReadMemory, 2*bufferSize(framing.PacketHeaderSize+c.limits.MaxMessageSize))
}

// resume makes a parked reader busy. It takes memory for a buffer of size bytes if
// that is available; grow waits for it.
func (in *intake) resume(h *holding, size int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.busy++
	in.unlink(h)
	if in.fits(h, size) {
		in.take(h, size)
	}
}

// grow takes memory for a buffer of size bytes, for a busy reader. It blocks until
// other readers free enough, and fails with errUnfinished if none is busy.
func (in *intake) grow(h *holding, size int) error {
	if h.bytes >= size {
		return nil
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.fits(h, size) {
		in.take(h, size)
		return nil
	}
	in.busy--
	in.waiting++
	defer func() { in.waiting--; in.busy++ }()
	for !in.fits(h, size) {
		if in.busy == 0 {
			return errUnfinished
		}
		in.freed.Wait()
	}
	in.take(h, size)
	return nil
}

// fits reports whether h may have size bytes. Under in.mu.
func (in *intake) fits(h *holding, size int) bool {
	limit := in.limit
	if size > burstSize {
		limit -= in.limit / smallShare
	}
	return in.closed || in.held+size-h.bytes <= limit
}

// take sets h to size bytes, unless it has more. Under in.mu.
func (in *intake) take(h *holding, size int) {
	if more := size - h.bytes; more > 0 {
		in.held += more
		h.bytes = size
		in.conn.account(more)
	}
}

// park makes a busy reader parked. The reader keeps a buffer of size bytes, with n
// bytes of an incomplete packet.
func (in *intake) park(h *holding, size, n int) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.busy--
	freed := size < h.bytes
	in.conn.account(size - h.bytes)
	in.held += size - h.bytes
	h.bytes = size
	switch {
	case n == 0:
		h.mark = 0
	case in.timeout > 0 && !in.closed:
		in.link(h, n)
	}
	if in.waiting > 0 && (freed || in.busy == 0) {
		in.freed.Broadcast()
	}
}

// leave is park for a reader that has ended.
func (in *intake) leave(h *holding) { in.park(h, 0, 0) }

// link starts or continues the timeout of h's incomplete packet, of which n bytes
// have arrived. Under in.mu.
func (in *intake) link(h *holding, n int) {
	now := time.Since(in.conn.begun)
	if h.mark == 0 || n >= h.mark+partialProgress {
		h.mark, h.elapsed = n, 0
	}
	h.since = now - h.elapsed // the time while this side was busy does not count
	h.linked, h.prev, h.next = true, nil, in.partial
	if h.next != nil {
		h.next.prev = h
	}
	in.partial = h
	switch {
	case in.armed:
	case in.timer == nil:
		in.timer = time.AfterFunc(in.checkInterval(), in.check)
	default:
		in.timer.Reset(in.checkInterval())
	}
	in.armed = true
}

func (in *intake) unlink(h *holding) {
	if !h.linked {
		return
	}
	h.elapsed = time.Since(in.conn.begun) - h.since
	if h.next != nil {
		h.next.prev = h.prev
	}
	if h.prev != nil {
		h.prev.next = h.next
	} else {
		in.partial = h.next
	}
	h.linked, h.prev, h.next = false, nil, nil
}

func (in *intake) checkInterval() time.Duration { return max(1, in.timeout/partialChecks) }

// check closes the connection if a packet has been incomplete for too long. If this
// side delays the connection, the timeouts of all packets start anew.
func (in *intake) check() {
	if in.overdue() {
		in.conn.failLater(engine.ErrPartialTimeout)
	}
}

func (in *intake) overdue() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.armed = false
	if in.partial == nil || in.closed {
		return false
	}
	now := time.Since(in.conn.begun)
	delivered := in.conn.delivered.Load()
	ours := in.conn.paused.Load() ||
		in.conn.delivering.Load() > 0 && (in.waiting > 0 || delivered == in.seen)
	in.seen = delivered
	for h := in.partial; h != nil; h = h.next {
		if ours {
			h.since = now
		} else if now-h.since >= in.timeout {
			return true
		}
	}
	in.timer.Reset(in.checkInterval())
	in.armed = true
	return false
}

// close lets all waiting readers continue: the connection has ended.
func (in *intake) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	if in.timer != nil {
		in.timer.Stop()
	}
	in.freed.Broadcast()
}
