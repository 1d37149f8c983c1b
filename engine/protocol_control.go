package engine

// A Control, for protocol authors, is a Codec's interface to its connection. Its methods
// do not block. Unless their comments say otherwise, only Accept and Decode of the
// connection's codec may call them, and not after they have returned.
type Control socketConn

func (c *Control) conn() *socketConn { return (*socketConn)(c) }

// Session returns the session of the connection. The application gets it in OnOpen; before
// that the codec may attach values to it and find its addresses.
func (c *Control) Session() *Session { return c.session }

// Limits returns the limits of the session. They are shared: do not write to them.
func (c *Control) Limits() *Limits { return c.session.Limits() }

// SendControl queues a copy of frame, a whole control frame, before queued messages; also
// before Establish, to answer a handshake. Any goroutine may call it. Errors: ErrWouldBlock
// if 4 KiB of control frames wait, and the reason of a session that ends.
func (c *Control) SendControl(frame []byte) error {
	s := c.session
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if err := s.out.appendControl(frame); err != nil {
		return err
	}
	c.conn().kickLocked()
	return nil
}

// Establish opens the session: its protocol's handshake is complete. OnOpen follows, then
// messages. A second call does nothing.
func (c *Control) Establish() { c.conn().establish() }
