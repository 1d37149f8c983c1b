package engine

import (
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
)

// coreStats are a core's counters. Its loop and its consumer write them once a
// batch, not once a message.
type coreStats struct {
	accepted, messagesIn, messagesOut, bytesIn, bytesOut atomic.Uint64
	batches, records, stalls, panics, datagramDrops      atomic.Uint64
	throttled, takeovers                                 atomic.Uint64
	closed                                               reasonCounts
	pinned                                               atomic.Bool
}

// transportStats are a protocol's counters.
type transportStats struct {
	name                    string
	active                  atomic.Int64
	opened                  atomic.Uint64
	messagesIn, messagesOut atomic.Uint64 // of links; the reactor's are in coreStats
}

// engineStats are the rare counters, and the table of protocols.
type engineStats struct {
	mu           sync.Mutex // guards the fields up to lastAccept
	transports   []*transportStats
	acceptErrors uint64
	lastAccept   error

	refused reasonCounts
}

// transport returns the counters of the protocol with that name.
func (e *engineStats) transport(name string) *transportStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, t := range e.transports {
		if t.name == name {
			return t
		}
	}
	t := &transportStats{name: name}
	e.transports = append(e.transports, t)
	return t
}

// countRefused counts a connection of remote that ended before its session was open; l is
// nil if this side dialed.
func (e *Engine) countRefused(reason error, remote netip.AddrPort, l *Listener) {
	e.stats.refused.add(reason)
	e.refusals.log(e.cfg.Logger, reason, remote, l)
}

func (e *Engine) countAcceptError(err error) {
	e.stats.mu.Lock()
	e.stats.acceptErrors++
	e.stats.lastAccept = err
	e.stats.mu.Unlock()
}

// reasons are the reasons that have counters of their own, the more specific ones first.
var reasons = [...]struct {
	err  error
	name string
}{
	{ErrTooLarge, "too_large"},
	{ErrHandshakeTimeout, "handshake_timeout"},
	{ErrIdleTimeout, "idle_timeout"},
	{ErrPongTimeout, "pong_timeout"},
	{ErrPartialTimeout, "partial_timeout"},
	{ErrWriteTimeout, "write_timeout"},
	{ErrSlowConsumer, "slow_consumer"},
	{ErrMemoryLimit, "memory_limit"},
	{ErrHandlerPanic, "handler_panic"},
	{ErrTLSHandshake, "tls_handshake"},
	{ErrProtocol, "protocol_error"},
	{ErrPeerClosed, "peer_closed"},
	{ErrConnectionLost, "connection_lost"},
	{ErrShutdown, "shutdown"},
	{ErrUnauthorized, "unauthorized"},
	{errMaxSessions, "max_sessions"},
	{errMaxOfListener, "max_sessions_of_listener"},
	{errMaxOfProtocol, "max_sessions_of_protocol"},
	{errMaxPerAddr, "max_sessions_per_addr"},
	{errMaxHandshakes, "max_handshakes"},
	{errAcceptRate, "accept_rate"},
	{ErrRefused, "refused"},
	{ErrClosed, "closed"},
}

// reasonCounts counts ends by reason; the last entry is for all others.
type reasonCounts [len(reasons) + 1]atomic.Uint64

func (c *reasonCounts) add(err error) {
	for i := range reasons {
		if errors.Is(err, reasons[i].err) {
			c[i].Add(1)
			return
		}
	}
	c[len(reasons)].Add(1)
}

// addTo adds the counts that aren't 0 to m.
func (c *reasonCounts) addTo(m map[string]uint64) {
	for i := range c {
		name := "other"
		if i < len(reasons) {
			name = reasons[i].name
		}
		if n := c[i].Load(); n > 0 {
			m[name] += n
		}
	}
}

// Stats is a snapshot of an engine's counters, which start when the engine is made.
//
// The reasons in Refused and Closed are the names of the error variables, in lower case:
// too_large, handshake_timeout, idle_timeout, pong_timeout, partial_timeout, write_timeout,
// slow_consumer, handler_panic, tls_handshake, protocol_error, peer_closed,
// connection_lost, shutdown, unauthorized, refused, closed; the limits that refuse
// connections: max_sessions, max_sessions_of_listener, max_sessions_of_protocol,
// max_sessions_per_addr, max_handshakes, accept_rate; and other.
// memory_limit is both.
type Stats struct {
	Active           int64             // sessions now, including those in their handshake
	Accepted         uint64            // connections accepted on stream listeners
	Refused          map[string]uint64 // connections that ended before they were sessions, by reason
	Closed           map[string]uint64 // sessions that ended, by reason
	AcceptErrors     uint64            // failed accepts; the listener continued
	LastAccept       error             // the error of the last failed accept
	Panics           uint64            // in handlers and in third-party protocols
	MessagesIn       uint64            // delivered to the handler or a ring
	MessagesOut      uint64            // queued and flushed, or passed to a link
	BytesIn          uint64            // read from stream sockets
	BytesOut         uint64            // written to stream sockets
	Throttled        uint64            // times that a session was paused by MessageRate or ByteRate
	DroppedMessages  uint64            // messages dropped by Config.SlowConsumer
	DroppedDatagrams uint64            // datagrams dropped because a ring was full
	Memory           MemoryStats
	Transports       []TransportStats
	Cores            []CoreStats
}

// MemoryStats are about Config.MemoryLimit. The connections that it refused and the
// sessions that it closed are memory_limit in Stats.Refused and Stats.Closed.
type MemoryStats struct {
	Used   int64  // bytes that the process's sessions and engines use now
	Limit  int64  // Config.MemoryLimit with its default; negative means none
	Paused uint64 // times that a session was not read because of the limit
}

// TransportStats are the counters of one protocol.
type TransportStats struct {
	Name   string
	Active int64  // sessions now
	Opened uint64 // sessions since the engine was made
}

// CoreStats are the counters of one core.
type CoreStats struct {
	Records   uint64 // consumed from the ring
	Batches   uint64 // in which they were consumed
	Takeovers uint64 // times that the second thread began to read because a callback took long; 0 with Inline, and on systems other than Linux
	Stalls    uint64 // times that a session had to wait for ring space
	RingDepth int    // bytes in the ring now
	Pinned    bool   // the worker's thread is bound to a CPU
}

// Stats returns a snapshot. It does not block; the cores are read one after another.
func (e *Engine) Stats() Stats {
	st := Stats{Active: e.active.Load(), DroppedMessages: e.drops.Load(), Refused: map[string]uint64{}, Closed: map[string]uint64{}}
	st.Memory = MemoryStats{Used: memory.total(), Limit: e.cfg.MemoryLimit, Paused: e.memory.paused.Load()}
	for _, c := range e.cores {
		cs := &c.stats
		st.Accepted += cs.accepted.Load()
		st.MessagesIn += cs.messagesIn.Load()
		st.MessagesOut += cs.messagesOut.Load()
		st.BytesIn += cs.bytesIn.Load()
		st.BytesOut += cs.bytesOut.Load()
		st.Panics += cs.panics.Load()
		st.DroppedDatagrams += cs.datagramDrops.Load()
		st.Throttled += cs.throttled.Load()
		cs.closed.addTo(st.Closed)
		st.Cores = append(st.Cores, CoreStats{
			Records: cs.records.Load(), Batches: cs.batches.Load(), Takeovers: cs.takeovers.Load(),
			Stalls: cs.stalls.Load(), RingDepth: c.ring.Depth(), Pinned: cs.pinned.Load(),
		})
	}
	e.stats.mu.Lock()
	defer e.stats.mu.Unlock()
	st.AcceptErrors, st.LastAccept = e.stats.acceptErrors, e.stats.lastAccept
	e.stats.refused.addTo(st.Refused)
	for _, t := range e.stats.transports {
		st.MessagesIn += t.messagesIn.Load()
		st.MessagesOut += t.messagesOut.Load()
		st.Transports = append(st.Transports, TransportStats{t.name, t.active.Load(), t.opened.Load()})
	}
	return st
}
