package quicbridge

import "github.com/millrace/millrace/engine"

// connMemory is an estimate, in bytes, of the fixed cost of a connection, from its first
// packet on: quic-go's state, crypto/tls's, and the stacks of its goroutines. TestIdleMemory
// measures it.
const connMemory = 40 << 10

var _ engine.BufferedLink = (*conn)(nil)

// Buffered implements engine.BufferedLink: the messages that wait to be written, and the
// read buffers, which hold packets that are incomplete or wait for the handler.
func (c *conn) Buffered() int {
	c.intake.mu.Lock()
	held := c.intake.held
	c.intake.mu.Unlock()
	return int(c.queued.Load()) + held
}

// beginWait is called before a reader waits while the peer may send. quic-go keeps the
// data that arrives meanwhile, and does not report how much. The connection's initial
// window is the estimate; a peer whose window has grown may send up to Config.MaxWindow.
func (c *conn) beginWait() {
	if c.waits.Add(1) == 1 {
		c.account(c.config.InitialWindow)
	}
}

// endWait undoes beginWait.
func (c *conn) endWait() {
	if c.waits.Add(-1) == 0 {
		c.account(-c.config.InitialWindow)
	}
}

// newWriteBuffer returns a buffer of at least size bytes for data on its way to quic-go.
func (c *conn) newWriteBuffer(size int) *buffer {
	b := newBuffer(size)
	c.account(b.size())
	return b
}

// freeWriteBuffer frees a buffer of newWriteBuffer, or nil.
func (c *conn) freeWriteBuffer(b *buffer) {
	c.account(-b.size())
	b.free()
}

// account adds bytes to the engine's account of memory.
func (c *conn) account(bytes int) {
	if c.host != nil && bytes != 0 { // nil in tests of an intake alone
		c.host.AccountMemory(bytes)
	}
}
