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
// stream. It blocks until the connection ends, and returns the cause.
func (c *conn) refuseUniStreams() error {
	_, err := c.quic.AcceptUniStream(context.Background())
	if err == nil {
		c.fail(errUniStream)
	}
	return err
}

// refuseStreams closes a msgtrans connection at its first bidirectional stream. It
// blocks until the connection ends, and returns the cause.
func (c *conn) refuseStreams() error {
	_, err := c.quic.AcceptStream(context.Background())
	if err == nil {
		c.fail(errStream)
	}
	return err
}

// acceptPackets accepts a msgtrans peer's streams until the connection ends. It reads
// them as acceptStreams does.
func (c *conn) acceptPackets() {
	for accepting := true; accepting; {
		q, err := c.quic.AcceptUniStream(context.Background())
		if err != nil {
			return
		}
		r := packetReader{conn: c, quic: q, accepting: true}
		if err := r.receive(); err != nil {
			c.fail(err)
		}
		accepting = r.accepting
	}
}

// packetReader reads a stream of a msgtrans peer. One goroutine uses it.
type packetReader struct {
	conn      *conn
	quic      *quic.ReceiveStream
	accepting bool // the goroutine also accepts the connection's streams
	one       [1]byte
	holding   holding
}

// mayWait is stream.mayWait for a msgtrans peer.
func (r *packetReader) mayWait() {
	if r.accepting {
		r.accepting = false
		r.conn.work.Go(r.conn.acceptPackets)
	}
}

// awaitData blocks until the stream has data or has ended, at most for IdleTimeout,
// and returns the error with which it has ended.
func (r *packetReader) awaitData() error {
	if r.accepting && sizeKnown(r.quic) {
		_ = r.quic.SetReadDeadline(time.Now().Add(acceptPatience)) // it never fails
		if _, err := r.quic.Peek(r.one[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	r.mayWait()
	_ = r.quic.SetReadDeadline(time.Now().Add(r.conn.config.IdleTimeout))
	_, err := r.quic.Peek(r.one[:])
	return err
}

// receive delivers the one packet of the stream. It returns an error only if the peer
// violated the protocol.
func (r *packetReader) receive() error {
	c, q, h := r.conn, r.quic, &r.holding
	in := &c.intake
	var buf *buffer
	n := 0
	defer func() {
		buf.free()
		in.leave(h)
	}()
	for {
		err := r.awaitData()
		in.resume(h, tailSize)
		if err != nil && err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil // reset by the peer, or the connection is gone
		}
		c.awaitResume()
		c.outlet.awaitRoom()
		if err := r.grow(tailSize); err != nil {
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
		case errors.Is(err, os.ErrDeadlineExceeded) && !r.accepting:
			q.CancelRead(streamCancelled) // so that another may be opened
			return nil
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			return nil // reset by the peer, or the connection is gone
		case n == len(buf.b):
			if err := c.checkPacket(buf.b); err != nil {
				return err
			}
			size := buf.next(framing.PacketHeaderSize + c.limits.MaxMessageSize)
			if err := r.grow(size); err != nil {
				return err
			}
			buf = buf.resized(n, size)
		}
		r.mayWait()
		in.park(h, buf.size(), n)
	}
}

// grow takes memory for a buffer of size bytes, and blocks until there is enough.
func (r *packetReader) grow(size int) error {
	if r.holding.bytes >= size {
		return nil
	}
	r.mayWait()
	return r.conn.intake.grow(&r.holding, size)
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
// Port.Deliver does.
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
	_ = c.port.Deliver(m) // it fails if the session is closing
	c.delivered.Add(1)
	c.delivering.Add(-1)
	return nil
}

// firstPacket returns the size of the first packet of b, which holds whole packets.
func firstPacket(b []byte) (int, error) {
	var m framing.Message
	return framing.Packet{}.Decode(b, 0, math.MaxInt, &m)
}

// tryWritePacket is writePacket if that takes no waiting; else it returns 0. Its bounds
// are those of tryWrite. By the goroutine that writes.
func (st *stream) tryWritePacket(b []byte) int {
	n, err := firstPacket(b)
	if err != nil || n > directPiece || st.direct+n > directBudget {
		return 0
	}
	if st.uni == nil {
		if st.uni, err = st.conn.quic.OpenUniStream(); err != nil {
			st.uni = nil
			return 0
		}
	}
	if st.uni.TryWriteAll(b[:n]) != nil {
		return 0
	}
	_ = st.uni.Close() // it fails if the peer stopped reading: no FIN is needed then
	st.uni = nil
	st.direct += n
	return n
}

// writePacket writes the first packet of b, which holds whole packets, on a stream
// of its own. It returns how many bytes of b are done. It blocks until the peer
// allows one more stream.
func (st *stream) writePacket(b []byte) (int, error) {
	n, err := firstPacket(b)
	if err == nil {
		err = st.writeUni(b[:n])
	}
	if err != nil {
		n = len(b)
	}
	st.direct = 0
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
func (st *stream) writeUni(b []byte) error {
	c, q := st.conn, st.uni
	if st.uni = nil; q == nil {
		ctx, cancel := c.awaitOpening()
		var err error
		q, err = c.quic.OpenUniStreamSync(ctx)
		cancel()
		if err != nil {
			return c.openFailed(err)
		}
	}
	err := c.writeWithin(q, b)
	var stop *quic.StreamError
	if errors.As(err, &stop) {
		return nil
	}
	if err != nil {
		return err
	}
	return q.Close()
}
