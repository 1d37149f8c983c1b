package quicbridge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

const (
	// compatMaxPacket is the size in bytes of the largest packet, header included,
	// that a msgtrans peer reads from a stream.
	compatMaxPacket = 1 << 20

	// compatPatience divides LingerTimeout into the time that a msgtrans peer has
	// for reading the last bytes. It has no way to confirm that.
	compatPatience = 4
)

var (
	errUniStream = fmt.Errorf("%w: a unidirectional stream on a %s connection", engine.ErrProtocol, ALPN)
	errStream    = fmt.Errorf("%w: a bidirectional stream on a connection without ALPN", engine.ErrProtocol)
	errTrailing  = fmt.Errorf("%w: %w: bytes after a packet", engine.ErrProtocol, framing.ErrMalformed)
)

// refuseUniStreams closes a millrace/1 connection at its first unidirectional
// stream.
func (c *conn) refuseUniStreams() {
	if _, err := c.quic.AcceptUniStream(context.Background()); err == nil {
		c.fail(errUniStream)
	}
}

// refuseStreams closes a msgtrans connection at its first bidirectional stream.
func (c *conn) refuseStreams() {
	if _, err := c.quic.AcceptStream(context.Background()); err == nil {
		c.fail(errStream)
	}
}

// acceptPackets reads a msgtrans peer's streams until the connection ends. It reads
// them concurrently, so that a stream which is never finished does not delay
// others.
func (c *conn) acceptPackets() error {
	for {
		q, err := c.quic.AcceptUniStream(context.Background())
		if err != nil {
			return err
		}
		c.work.Go(func() {
			if err := c.receivePacket(q); err != nil {
				c.fail(err)
			}
		})
	}
}

// receivePacket delivers the one packet of a stream. It returns an error only if
// the peer violated the protocol.
func (c *conn) receivePacket(q *quic.ReceiveStream) error {
	in, h := &c.intake, new(holding)
	var buf *buffer
	var one [1]byte
	n := 0
	defer func() {
		buf.free()
		in.leave(h)
	}()
	for {
		_ = q.SetReadDeadline(time.Now().Add(c.config.IdleTimeout)) // it never fails
		_, err := q.Peek(one[:])
		in.resume(h, tailSize)
		if err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil // reset by the peer, or the connection is gone
		}
		c.awaitResume()
		c.outlet.awaitRoom()
		if err := in.grow(h, tailSize); err != nil {
			return err
		}
		if buf == nil {
			buf = newBuffer(tailSize)
		}
		k, err := q.Read(buf.b[n:])
		n += k
		switch {
		case err == io.EOF:
			return c.deliverPacket(buf.b[:n])
		case errors.Is(err, os.ErrDeadlineExceeded):
			q.CancelRead(streamCancelled) // so that another may be opened
			return nil
		case err != nil:
			return nil // reset by the peer, or the connection is gone
		case n == len(buf.b):
			if err := c.checkPacket(buf.b); err != nil {
				return err
			}
			size := buf.next(framing.PacketHeaderSize + c.limits.MaxMessageSize)
			if err := in.grow(h, size); err != nil {
				return err
			}
			buf = buf.resized(n, size)
		}
		in.park(h, buf.size(), n)
	}
}

// checkPacket checks the start of a packet before more memory is allocated for it.
func (c *conn) checkPacket(b []byte) error {
	var m framing.Message
	n, err := framing.Packet{}.Decode(b, 0, c.limits.MaxMessageSize, &m)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", engine.ErrProtocol, err)
	case n > 0 && n < len(b):
		return errTrailing
	}
	return nil
}

// deliverPacket delivers b, which must be exactly one packet. It blocks as
// Session.Deliver does.
func (c *conn) deliverPacket(b []byte) error {
	m := new(framing.Message)
	n, err := framing.Packet{}.Decode(b, 0, c.limits.MaxMessageSize, m)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", engine.ErrProtocol, err)
	case n == 0:
		return errTruncated
	case n < len(b):
		return errTrailing
	}
	c.delivering.Add(1)
	_ = c.session.Deliver(m) // it fails if the session is closing
	c.delivered.Add(1)
	c.delivering.Add(-1)
	return nil
}

// writePacket writes the first packet of b, which holds whole packets, on a stream
// of its own. It returns how many bytes of b are done. It blocks until the peer
// allows one more stream.
func (st *stream) writePacket(b []byte) (int, error) {
	c := st.conn
	var m framing.Message
	n, err := framing.Packet{}.Decode(b, 0, math.MaxInt, &m)
	if err == nil {
		err = c.writeUni(b[:n])
	}
	if err != nil {
		n = len(b)
	}
	st.out.Done(n)
	return n, err
}

// writeWithin writes b on q. It closes the connection if the peer takes nothing for
// WriteTimeout.
func (c *conn) writeWithin(q *quic.SendStream, b []byte) error {
	for {
		if limit := c.limits.WriteTimeout; limit > 0 {
			_ = q.SetWriteDeadline(time.Now().Add(limit)) // it never fails
		}
		n, err := q.Write(b)
		switch {
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		case n == 0:
			c.fail(engine.ErrWriteTimeout)
			return engine.ErrWriteTimeout
		}
		b = b[n:]
	}
}

// writeUni writes b on a stream of its own. If the peer refuses to read this
// stream, that is no error: it may read the next one.
func (c *conn) writeUni(b []byte) error {
	ctx, cancel := c.awaitOpening()
	q, err := c.quic.OpenUniStreamSync(ctx)
	cancel()
	if err != nil {
		return c.openFailed(err)
	}
	err = c.writeWithin(q, b)
	var stop *quic.StreamError
	if errors.As(err, &stop) {
		return nil
	}
	if err != nil {
		return err
	}
	return q.Close()
}
