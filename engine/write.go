package engine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/reactor"
)

// maxWriteBlocks is how many blocks one writev takes.
const maxWriteBlocks = 8

// flushLocked writes what is queued until the outbox is empty or the socket is
// full. s.out.mu is held when it is called, and s.writing is false; it is
// released around each system call, so that others can append meanwhile, and
// held again on return.
//
// s.writing is the right to use the descriptor for writing. Who closes it
// looks at the flag under the same lock, and leaves the closing to the writer's
// settle when it is set: so a write never reaches a descriptor that was closed.
func (s *Session) flushLocked() {
	s.writing = true
	for s.phase < phaseEnded && !s.broken {
		chain := s.takeLocked()
		if chain == nil {
			s.blocked.Store(false)
			break
		}
		s.out.mu.Unlock()
		n, total, err := writeChain(s.conn.FD, chain)
		s.out.mu.Lock()
		if n > 0 {
			chain = s.out.written(chain, n)
			s.core.stats.bytesOut.Add(uint64(n))
			if s.blocked.Load() {
				s.lastWrite.Store(s.core.engine.ticks())
			}
		}
		s.putBackLocked(chain)
		if err != nil && err != unix.EAGAIN {
			s.breakLocked(fmt.Errorf("%w: write: %w", ErrConnectionLost, err))
			break
		}
		if n == total {
			continue
		}
		// The socket is full. It may have got room before blocked was set, and
		// then no event will come for it: so one more try after setting it.
		if s.blocked.Swap(true) && err == unix.EAGAIN && !s.retry {
			break
		}
		s.retry = false
		if s.core.engine.cfg.WriteTimeout > 0 {
			_ = s.core.loop.Trigger(armWriteTask, s)
		}
	}
	s.writing = false
	s.core.stats.messagesOut.Add(uint64(s.out.messages))
	s.out.messages = 0
	s.afterFlushLocked()
}

// writeChain writes the blocks of chain, up to maxWriteBlocks, by one system
// call. total is how many bytes that was meant to be.
func writeChain(fd int, chain *block) (n, total int, err error) {
	if chain.next == nil {
		b := chain.b[chain.off:]
		n, err = reactor.Write(fd, b)
		return n, len(b), err
	}
	var bufs [maxWriteBlocks][]byte
	count := 0
	for b := chain; b != nil && count < maxWriteBlocks; b = b.next {
		bufs[count] = b.b[b.off:]
		total += len(bufs[count])
		count++
	}
	n, err = reactor.Writev(fd, bufs[:count])
	return n, total, err
}

// afterFlushLocked does what a flush made possible.
func (s *Session) afterFlushLocked() {
	if s.congested && s.out.pending <= s.out.limits.OutboxSoftMark/2 {
		s.congested = false
		s.unblockRead()
	}
	if s.phase == phaseClosing && s.out.pending == 0 {
		s.phase = phaseDrained
		reactor.ShutdownWrite(s.conn.FD)
	}
	if s.phase >= phaseDrained {
		_ = s.core.loop.Trigger(settleTask, s)
	}
}

// kickLocked starts a flush unless somebody else will do it: the present
// writer, the loop when the socket has room, or the consumer that corked s.
func (s *Session) kickLocked() {
	if s.laned && !s.breakLaneLocked() {
		return
	}
	if s.writing || s.blocked.Load() {
		return
	}
	if s.corked.Load() && s.out.pending < flushBytes {
		return
	}
	s.flushLocked()
}

// writable goes on writing when a full socket has room. On the loop.
func (s *Session) writable() {
	s.out.mu.Lock()
	if s.writing {
		s.retry = true // its last write may have been too early
	} else {
		s.flushLocked()
	}
	s.out.mu.Unlock()
}

// uncork flushes what a corked session was sent. By the consumer.
func (s *Session) uncork() {
	if s.link != nil {
		s.corked.Store(false)
		s.flushLink()
		return
	}
	s.out.mu.Lock()
	s.corked.Store(false)
	if s.out.pending > 0 || s.phase == phaseClosing {
		s.kickLocked()
	}
	s.out.mu.Unlock()
}

// The two kinds of reasons not to read, as they are counted in readBlocks: the
// application's pauses, of which there are less than engineBlock, and the engine's
// own (a congested outbox, a throttle). So neither can undo the other's.
const (
	pauseBlock  = 1
	engineBlock = 1 << 24
)

// blockRead adds a reason of the engine's not to read from the peer.
func (s *Session) blockRead() { s.addReadBlock(engineBlock) }

// unblockRead takes a reason of the engine's away; with the last one of all reading goes on.
func (s *Session) unblockRead() { s.readBlocksFell(s.readBlocks.Add(-engineBlock)) }

// resume takes one of the application's pauses away, if there is one.
func (s *Session) resume() {
	for {
		n := s.readBlocks.Load()
		if n%engineBlock == 0 {
			if e := s.core.engine; e.misused.CompareAndSwap(false, true) {
				e.cfg.Logger.Warn("Session.Resume without Pause", "session", s.id, "transport", s.Transport())
			}
			return
		}
		if s.readBlocks.CompareAndSwap(n, n-pauseBlock) {
			s.readBlocksFell(n - pauseBlock)
			return
		}
	}
}

func (s *Session) addReadBlock(kind int32) {
	if s.readBlocks.Add(kind) == kind && s.link != nil {
		s.tellReading()
	}
}

// readBlocksFell goes on reading if no reason not to is left.
func (s *Session) readBlocksFell(left int32) {
	if left > 0 {
		return
	}
	if s.link != nil {
		s.tellReading()
		return
	}
	_ = s.core.loop.Trigger(resumeReadTask, s)
}
