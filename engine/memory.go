package engine

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"golang.org/x/sys/cpu"
)

// The estimates of the account, in bytes of heap, measured with idle sessions by
// bench/scenario. A session over TCP takes 438, over WebSocket 470. TLS takes 7 KiB more,
// and 20 KiB after it has read a large record: the account uses the larger figure.
const (
	sessionMemory = 512
	tlsMemory     = 20 << 10
)

// memory is the account of the process. Each engine compares it with its own limit.
var memory memoryAccount

// memoryAccount counts the memory that sessions use: blocks that are not in a pool,
// sessions, TLS, incomplete messages in codecs, memory of transports, and the rings and
// read buffers of engines.
//
// Blocks are taken and freed on every core, so the count is divided into shards. A block
// belongs to a shard for life: a pool keeps it on one CPU, and so the shard in that CPU's
// cache. For all else the shard is chosen at random. A shard alone means nothing, and only
// their sum is used.
type memoryAccount struct {
	shards  [memoryShards]memoryShard
	mu      sync.Mutex // held by the engine that enforces its limit, and to change watches
	watches atomic.Pointer[[]*memoryWatch]
}

type memoryShard struct {
	bytes atomic.Int64
	next  atomic.Int64 // the watches look at the sum when bytes exceeds it
	_     cpu.CacheLinePad
}

// The watches look at the sum when a shard has grown by one to two steps. So they may miss a
// growth of 4 MiB in all.
const (
	memoryShards = 16
	memoryStep   = 128 << 10 // bytes
)

// randomShard returns the shard of a new block.
func randomShard() uint8 { return uint8(rand.Uint32() % memoryShards) }

// add adds n bytes, which may be negative. Any goroutine may call it, under any lock.
func (a *memoryAccount) add(n int) { a.addTo(randomShard(), n) }

// addTo is add for memory that belongs to a shard. A shard that falls takes next with it,
// but two steps behind, so that memory that is taken and freed in turn causes no look.
func (a *memoryAccount) addTo(shard uint8, n int) {
	s := &a.shards[shard%memoryShards]
	switch now, next := s.bytes.Add(int64(n)), s.next.Load(); {
	case now > next:
		s.next.Store(now + memoryStep)
		a.grew()
	case now < next-2*memoryStep:
		s.next.Store(now + memoryStep)
	}
}

// total returns the bytes in use.
func (a *memoryAccount) total() (n int64) {
	for i := range a.shards {
		n += a.shards[i].bytes.Load()
	}
	return n
}

// grew wakes the watches whose engine has to act.
func (a *memoryAccount) grew() {
	watches := a.watches.Load()
	if watches == nil {
		return
	}
	total := a.total()
	for _, w := range *watches {
		if total >= w.refuseAt() {
			w.wake()
		}
	}
}

// changeWatches replaces the list of watches by change's result.
func (a *memoryAccount) changeWatches(change func(old []*memoryWatch) []*memoryWatch) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var old []*memoryWatch
	if p := a.watches.Load(); p != nil {
		old = *p
	}
	changed := change(append([]*memoryWatch(nil), old...))
	a.watches.Store(&changed)
}

// defaultMemoryShare is the part of the available memory that is the default of
// Config.MemoryLimit, in tenths. The rest is for the garbage collector, for the stacks and
// for the application.
const defaultMemoryShare = 7

// defaultMemoryLimit returns the default of Config.MemoryLimit: a share of the limit of
// the process's cgroup (versions 1 and 2), or of the RAM if that is less; -1 if neither is
// known.
var defaultMemoryLimit = sync.OnceValue(func() int64 {
	least := uint64(0)
	for _, from := range [...]func() (uint64, error){memlimit.FromCgroup, memlimit.FromSystem} {
		if n, err := from(); err == nil && n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	if least == 0 {
		return -1
	}
	return int64(least / 10 * defaultMemoryShare)
})

// coreMemory returns the bytes of the rings and of the read buffers, two a core.
func (c *Config) coreMemory() int { return c.Cores * (c.RingSize + 2*c.ReadBufferSize) }

// AccountMemory adds bytes, which may be negative, to the memory that counts for
// Config.MemoryLimit. A Transport calls it for the memory that it allocates for its peers:
// the fixed cost of a connection, receive windows, read buffers. It must undo each call
// when it frees that memory. The blocks of an Outbox are counted already. It does not
// block, and may be called from anywhere.
func (h *Host) AccountMemory(bytes int) { memory.add(bytes) }

// BufferedLink, for protocol authors, is implemented by a Link that reports how many
// bytes it buffers for its session: messages that wait to be written, and input that
// waits to be completed or handled. Config.MemoryLimit pauses and closes the sessions
// that buffer most; a session of another Link counts as 0, so it is neither paused nor
// closed.
type BufferedLink interface {
	Link
	// Buffered returns the bytes. Any goroutine may call it; it must not block.
	Buffered() int
}

// buffered implements connection.
func (c *linkConn) buffered() (n int) {
	if b, ok := c.link.(BufferedLink); ok {
		_ = c.guarded(func() error { n = b.Buffered(); return nil })
	}
	return n
}

// buffered implements connection.
func (c *socketConn) buffered() int {
	s := c.session
	s.out.mu.Lock()
	n := s.out.pending
	s.out.mu.Unlock()
	return n + int(c.kept.Load())
}

// noteInput accounts for the input that c keeps: its tail, and inCodec bytes of an
// incomplete message in the codec's own memory. On the loop.
func (c *socketConn) noteInput(inCodec int) {
	if inCodec != int(c.inCodec) {
		memory.add(inCodec - int(c.inCodec))
		c.inCodec = int32(inCodec)
	}
	kept := int32(inCodec)
	if c.tail != nil {
		kept += int32(cap(c.tail.b))
	}
	if kept != c.kept.Load() {
		c.kept.Store(kept)
	}
}
