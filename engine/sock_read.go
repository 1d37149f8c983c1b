package engine

import (
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/reactor"
)

// smallTail is the largest incomplete tail in bytes that is copied in front of
// the next read; above it the read goes behind the tail in place, so that a large
// message in small pieces is copied a constant number of times.
const smallTail = 4 << 10

// OnEvent implements reactor.Handler.
func (c *socketConn) OnEvent(ev reactor.Event) {
	if ev&reactor.Writable != 0 {
		if o := c.outputState(); o == outputFull || o == outputBlocked {
			c.writable()
		}
	}
	if ev&reactor.ToTheEnd != 0 {
		c.input = max(c.input, inputFinal)
	}
	if ev&reactor.Readable != 0 {
		c.read()
	}
	c.checked()
}

// readAgain reads once more after the loop's other ready sockets.
func (c *socketConn) readAgain() {
	if !c.again {
		c.again = true
		c.core().loop.Again((*readTurn)(c))
	}
}

// readTurn is a socketConn that is queued in the loop for another read.
type readTurn socketConn

// OnEvent reads.
func (t *readTurn) OnEvent(reactor.Event) {
	c := (*socketConn)(t)
	c.again = false
	c.read()
	c.checked()
}

// read reads from the socket, up to one buffer, and decodes. If the connection
// may not be read, it notes that the socket may hold bytes.
func (c *socketConn) read() {
	if c.stage == stageGone {
		return
	}
	if c.input >= inputDraining {
		c.discardInput()
		return
	}
	// Load stalled once. The consumer may clear it concurrently and then resumes
	// only the connections in stalledQueue, so one that saw true must be queued.
	// A connection with a backlog must first post its OnOpen or its message.
	stalled := c.core().stalled.Load()
	if stalled || c.backlog&^dueSocket != 0 || c.session.reading.Load() != 0 {
		c.backlog |= dueSocket
		if stalled {
			c.core().stall(c)
		}
		return
	}
	c.backlog &^= dueSocket
	if c.tls != nil {
		c.tls.read()
		return
	}
	buf, have := c.readTarget()
	n, err := c.core().loop.Read(c.sock.FD, buf[have:])
	if n <= 0 {
		c.keep(buf[:have])
		c.readFailed(err)
		return
	}
	full := n == len(buf)-have
	c.received(n)
	c.process(buf[:have+n], int(c.seen))
	if full || c.input == inputFinal {
		c.readMore()
	}
}

// received accounts for n bytes that were read.
func (c *socketConn) received(n int) {
	c.lastRead = c.core().tick
	c.core().stats.bytesIn.Add(uint64(n))
	if t := c.session.throttle; t != nil && c.tls == nil {
		t.fresh = n
	}
}

// readMore reads again although no event may come, unless c has a backlog that
// comes first.
func (c *socketConn) readMore() {
	if c.stage == stageGone {
		return
	}
	if c.input < inputDraining {
		c.backlog |= dueSocket
	}
	if c.backlog&waiting == 0 {
		c.readAgain()
	}
}

// readTarget returns where to read to: have bytes of it are the incomplete tail.
func (c *socketConn) readTarget() (buf []byte, have int) {
	t := c.tail
	if t == nil {
		return c.core().readBuf, 0
	}
	if len(t.b) <= smallTail && len(t.b) < len(c.core().readBuf)/2 {
		have = copy(c.core().readBuf, t.b)
		c.tail = nil
		t.free()
		return c.core().readBuf, have
	}
	if size := c.tailSize(t); size > cap(t.b) {
		bigger := newBlock(size)
		bigger.b = append(bigger.b, t.b...)
		c.tail = bigger
		t.free()
		t = bigger
	}
	return t.b[:cap(t.b)], len(t.b)
}

// maxTailGrowth is how many times the bytes that have arrived, and 64 KiB, a block
// may hold for a frame that is only announced.
const maxTailGrowth = 4

// tailSize is the size of the tail's block for the next read. If the codec knows the
// size of the frame at its start, the block grows to that, by steps of
// maxTailGrowth, so that a peer which announces much and sends little pins little;
// else it doubles when it is nearly full.
func (c *socketConn) tailSize(t *block) int {
	need := 0
	if sized, ok := c.codec.(SizedCodec); ok {
		need = c.announced(sized, t.b)
	}
	switch {
	case need == 0 && t.space() < cap(t.b)/4:
		return 2 * cap(t.b)
	case need <= cap(t.b) || t.space() >= minBlockSize:
		return cap(t.b)
	}
	// Steps that end at need, so that all of them together are 4/3 of it.
	for need > maxTailGrowth*len(t.b)+maxFrameOverhead {
		need = (need + maxTailGrowth - 1) / maxTailGrowth
	}
	return need
}

// announced is the size of the incomplete frame at the start of b, or 0 if it is not
// known, or refused.
func (c *socketConn) announced(codec SizedCodec, b []byte) int {
	defer c.session.recoverPanic()
	if n := codec.Need(b); n > len(b) && n <= c.core().engine.lim.MaxMessageSize+maxFrameOverhead {
		return n
	}
	return 0
}

// keep makes b the incomplete tail. b may lie in the read buffer or in the tail's
// own block.
func (c *socketConn) keep(b []byte) {
	t := c.tail
	switch {
	case len(b) == 0:
		c.tail = nil
		if t != nil {
			t.free()
		}
	case t == nil:
		c.tail = blockOf(b)
	default:
		// b is a suffix of the block's memory: move it to the front.
		full := t.b[:cap(t.b)]
		t.b = full[:copy(full, b)]
	}
}

// readFailed handles a read that returned no bytes.
func (c *socketConn) readFailed(err error) {
	switch {
	case err == unix.EAGAIN:
	case err == nil:
		c.inputEnds(c.peerEnd(ErrPeerClosed))
	default:
		c.stopInput(inputEnded)
		c.close(fmt.Errorf("%w: read: %w", ErrConnectionLost, err), true)
	}
}

// inputEnds ends the session behind its messages: the end of the input was read.
func (c *socketConn) inputEnds(reason error) {
	c.endBehindMessages(reason)
	c.input = inputEnded
	c.settle() // the peer's end may be all that was missing
}

// peerEnd is reason, the peer's end, or says that it came too early.
func (c *socketConn) peerEnd(reason error) error {
	if c.tail != nil {
		return fmt.Errorf("%w in the middle of a message: %w", ErrPeerClosed, io.ErrUnexpectedEOF)
	}
	return reason
}

// stopInput makes c drop what arrives from now on; as is the new state.
func (c *socketConn) stopInput(as input) {
	c.input = max(c.input, as)
	c.backlog &^= dueTail | dueShutdown
	c.partialEnds = 0
	if !c.core().decoding { // else process does it
		c.keep(nil)
	}
}

// discardInput reads and drops what the peer still sends to an ending session,
// to find its end.
func (c *socketConn) discardInput() {
	if c.input == inputEnded {
		return
	}
	n, err := c.core().loop.Read(c.sock.FD, c.core().readBuf)
	switch {
	case n > 0:
		c.readAgain()
	case err == unix.EAGAIN:
	default:
		c.input = inputEnded
		c.settle()
	}
}
