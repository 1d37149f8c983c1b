package engine

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/reactor"
)

// OnEvent implements reactor.Handler.
func (c *socketConn) OnEvent(ev reactor.Event) {
	if ev&reactor.Writable != 0 {
		if o := c.outputState(); o == outputFull || o == outputBlocked {
			c.writable()
		}
	}
	if ev&reactor.ToTheEnd != 0 {
		c.input = max(c.input, inputFinal)
		c.session.unblockReading(readMemory) // else a lost peer would keep its memory
	}
	if ev&reactor.Readable != 0 {
		c.read()
	}
	c.checked()
}

// readAgain reads once more after the loop's other ready sockets.
func (c *socketConn) readAgain() {
	if !c.readQueued {
		c.readQueued = true
		c.core().loop.Again((*readTurn)(c))
	}
}

// readTurn is a socketConn that is queued in the loop for another read.
type readTurn socketConn

// OnEvent reads.
func (t *readTurn) OnEvent(reactor.Event) {
	c := (*socketConn)(t)
	c.readQueued = false
	c.read()
	c.checked()
}

// read reads from the socket, at most one buffer, and decodes. If the connection may not
// be read, it notes in the backlog that the socket may contain bytes.
func (c *socketConn) read() {
	if c.stage == stageGone {
		return
	}
	if c.input >= inputDraining {
		c.discardInput()
		return
	}
	// Load stalled once. The consumer may clear it concurrently and then resumes only the
	// connections in stalledQueue, so a connection that saw true must be queued. A
	// connection with a backlog must first post its OnOpen or its message.
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
	buf, have := c.readTarget(c.session, c.codec)
	n, err := c.core().loop.Read(c.sock.FD, buf[have:])
	if n <= 0 {
		c.keep(buf[:have])
		c.readFailed(err)
		return
	}
	full := n == len(buf)-have
	c.received(n)
	if t := c.session.rates(); t != nil {
		t.fresh = n
	}
	c.process(buf[:have+n], int(c.seen))
	if full || c.input == inputFinal {
		c.readMore()
	}
}

// readMore schedules another read without an event, after the steps of c's backlog.
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

// readFailed handles a read that returned no bytes.
func (c *socketConn) readFailed(err error) {
	switch err {
	case unix.EAGAIN:
	case nil:
		c.inputEnds(c.peerEnd())
	default:
		c.stopInput(inputEnded)
		out := &c.session.out
		out.mu.Lock()
		c.failLocked(fmt.Errorf("%w: read: %w", ErrConnectionLost, err), closingSends)
		out.mu.Unlock()
	}
}
