package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/reactor"
)

const (
	// maxWriteBlocks is the largest number of blocks in one writev, and maxWriteBytes the
	// largest number of bytes, unless the first block alone has more.
	maxWriteBlocks = 64
	maxWriteBytes  = flushBudget / 2

	// flushBudget is how many bytes one flush writes before it leaves the rest to the
	// loop. It bounds how long a flush delays a sender, or the core's other sockets.
	flushBudget = 1 << 20
)

// socketWriter is the writing half of a socketConn. Its state is guarded by the
// session's out.mu.
type socketWriter struct {
	session   *Session
	output    atomic.Uint32 // an output
	kept      atomic.Int32  // bytes of input that wait, for Config.MemoryLimit; written by the loop
	lastWrite atomic.Int64  // tick of the last bytes that a full socket accepted
}

func (w *socketWriter) conn() *socketConn   { return w.session.conn.(*socketConn) }
func (w *socketWriter) core() *core         { return w.session.core }
func (w *socketWriter) outputState() output { return output(w.output.Load()) }
func (w *socketWriter) setOutput(o output)  { w.output.Store(uint32(o)) }

// send implements connection.
func (w *socketWriter) send(m *framing.Message) (err error) {
	s := w.session
	s.out.mu.Lock()
	defer w.unlockAppend(&err)
	if s.phase == phaseHandshake {
		return ErrWouldBlock // a handler cannot see such a session yet
	}
	return w.queuedLocked(s.out.append(w.conn().codec, m))
}

// queuedLocked makes the steps after a message was queued, or refused with err, and
// returns the sender's error.
func (w *socketWriter) queuedLocked(err error) error {
	if err != nil {
		if err == ErrSlowConsumer {
			if w.outputState() == outputReplies {
				return ErrWouldBlock // the running callback is slow, not the peer
			}
			w.failLocked(err, closingAll)
		}
		return err
	}
	w.congestLocked()
	w.kickLocked()
	return nil
}

// sendContext implements connection.
func (w *socketWriter) sendContext(ctx context.Context, m *framing.Message) (err error) {
	s := w.session
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.out.mu.Lock()
	defer w.unlockAppend(&err)
	if s.phase == phaseHandshake {
		return ErrWouldBlock
	}
	if err := s.out.appendContext(ctx, w.conn().codec, m); err != nil {
		return err
	}
	w.congestLocked()
	w.kickLocked()
	return nil
}

// unlockAppend unlocks the session after a call of the codec's Append. A panic ends the
// session.
func (w *socketWriter) unlockAppend(err *error) {
	s := w.session
	v := recover()
	if v == nil {
		s.out.mu.Unlock()
		return
	}
	p := newPanicError(v)
	w.closeLocked(p)
	s.out.mu.Unlock()
	s.notePanic(p)
	*err = p
}

// congestLocked stops reading when more than the soft mark is queued. Only the side that
// accepted stops: if both did, two peers that write more than they read would wait for
// each other forever.
func (w *socketWriter) congestLocked() {
	s := w.session
	if s.out.pending > s.out.limits.OutboxSoftMark && s.reading.Load()&readCongested == 0 && !s.Dialed() {
		s.blockReading(readCongested)
	}
}

// kickLocked starts a flush unless another goroutine will do so: the present writer, the
// loop when the socket has space, or the consumer, which has corked the session or
// collects replies to it.
func (w *socketWriter) kickLocked() {
	s := w.session
	switch w.outputState() {
	case outputReplies:
		s.core.consumer.replies.overtaken.Store(true)
	case outputIdle:
		if !s.corked.Load() || s.out.pending >= flushBytes {
			w.flushLocked()
		}
	}
}

// flush implements connection.
func (w *socketWriter) flush() {
	s := w.session
	s.out.mu.Lock()
	if s.out.pending > 0 || s.phase == phaseClosing {
		w.kickLocked()
	}
	s.out.mu.Unlock()
}

// writable continues a flush when the poller reports space. On the loop.
func (w *socketWriter) writable() {
	s := w.session
	s.out.mu.Lock()
	switch w.outputState() {
	case outputFull:
		w.setOutput(outputRetry) // the writer's last write may have been too early
	case outputBlocked:
		w.flushLocked()
	}
	s.out.mu.Unlock()
}

// flushLocked writes the queued bytes until the outbox is empty, the socket is full, or
// the budget is used up. It is called with s.out.mu held, while no other goroutine writes.
// It releases the mutex around each system call, so that others can append, and holds it
// again on return.
//
// A writing output is the right to use the descriptor for writing. settle, which closes
// the descriptor, checks the output under the same lock. If there is a writer, settle
// leaves the closing to the settle that the writer triggers at its end. So a write never
// reaches a closed descriptor.
func (w *socketWriter) flushLocked() {
	s, loop, fd := w.session, w.core().loop, w.conn().sock.FD
	now := outputWriting
	if w.outputState() == outputBlocked {
		now = outputFull
	}
	w.setOutput(now)
	after := outputIdle
	for budget := flushBudget; s.phase < phaseEnded; {
		chain := w.takeLocked()
		if chain == nil {
			break
		}
		s.out.mu.Unlock()
		n, total, err := writeChain(loop, fd, chain)
		s.out.mu.Lock()
		if n > 0 {
			budget -= n
			chain = s.out.written(chain, n)
			s.core.stats.bytesOut.Add(uint64(n))
			if w.outputState() != outputWriting {
				w.lastWrite.Store(s.core.engine.ticks())
			}
		}
		w.putBackLocked(chain)
		if err != nil && err != unix.EAGAIN {
			w.breakLocked(fmt.Errorf("%w: write: %w", ErrConnectionLost, err))
			after = outputBroken
			break
		}
		if n < total && w.fullLocked(err) {
			after = outputBlocked
			break
		}
		if budget <= 0 && s.out.pending > 0 {
			after = outputScheduled
			break
		}
	}
	w.setOutput(after)
	s.core.stats.messagesOut.Add(uint64(s.out.messages))
	s.out.messages = 0
	w.flushedLocked(after)
}

// fullLocked handles a write that found the socket full, and reports whether the
// flush must wait for the poller.
//
// No wake-up is lost. Space that came before the output became full may have caused an
// event that was ignored, so the first time one more write is tried. An event after that
// sets outputRetry, and a write is tried again.
func (w *socketWriter) fullLocked(err error) bool {
	if w.outputState() == outputFull {
		return err == unix.EAGAIN
	}
	if w.outputState() == outputWriting && w.session.out.limits.WriteTimeout > 0 {
		_ = w.core().loop.Trigger(armWriteTask, w.conn())
	}
	w.setOutput(outputFull)
	return false
}

// writeVectors holds the buffer lists of writeChain, which escape to the loop.
var writeVectors = sync.Pool{New: func() any { return new([maxWriteBlocks][]byte) }}

// writeChain writes the first blocks of chain by one system call. total is the number of
// bytes passed to it.
func writeChain(loop eventLoop, fd int, chain *block) (n, total int, err error) {
	if chain.next == nil {
		b := chain.b[chain.off:]
		n, err = loop.Write(fd, b)
		return n, len(b), err
	}
	bufs := writeVectors.Get().(*[maxWriteBlocks][]byte)
	count := 0
	for b := chain; b != nil && count < maxWriteBlocks; b = b.next {
		rest := b.b[b.off:]
		if count > 0 && total+len(rest) > maxWriteBytes {
			break
		}
		bufs[count] = rest
		total += len(rest)
		count++
	}
	n, err = loop.Writev(fd, bufs[:count])
	clear(bufs[:count]) // or the pool would keep the bytes alive
	writeVectors.Put(bufs)
	return n, total, err
}

// flushedLocked makes the steps after a flush: the rest of it, reading, the end.
func (w *socketWriter) flushedLocked(after output) {
	s := w.session
	if after == outputScheduled {
		_ = w.core().loop.Trigger(scheduleFlushTask, w.conn())
	}
	if s.out.pending <= s.out.limits.OutboxSoftMark/2 && s.reading.Load()&readCongested != 0 {
		s.unblockReading(readCongested)
	}
	if s.phase == phaseClosing && s.out.pending == 0 {
		s.phase = phaseDrained
		w.core().loop.ShutdownWrite(w.conn().sock.FD)
	}
	if s.phase >= phaseDrained {
		_ = w.core().loop.Trigger(settleTask, w.conn())
	}
}

// scheduleFlushTask queues the rest of a flush after the loop's ready sockets.
func scheduleFlushTask(arg any) error {
	c := arg.(*socketConn)
	c.core().loop.Again((*flushTurn)(c))
	return nil
}

// flushTurn is a socketConn that is queued in the loop for another flush.
type flushTurn socketConn

// OnEvent writes with one more budget.
func (t *flushTurn) OnEvent(reactor.Event) {
	c := (*socketConn)(t)
	s := c.session
	s.out.mu.Lock()
	if c.outputState() == outputScheduled && s.phase < phaseEnded {
		c.flushLocked()
	}
	s.out.mu.Unlock()
	c.checked()
}

// takeLocked detaches the next bytes to write: with TLS, ciphertext. To be called by the
// writer with s.out.mu held, which TLS releases while it encrypts.
func (w *socketWriter) takeLocked() *block {
	if t := w.conn().tls; t != nil {
		return t.takeLocked()
	}
	return w.session.out.take()
}

// putBackLocked returns the unwritten rest of takeLocked's chain.
func (w *socketWriter) putBackLocked(chain *block) {
	if t := w.conn().tls; t != nil {
		t.sealed.pushFront(chain)
		return
	}
	w.session.out.queue.pushFront(chain)
}
