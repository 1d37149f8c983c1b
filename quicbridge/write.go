package quicbridge

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/millrace/millrace/engine"
)

// ownPatience is how long a reader that writes the replies to its own stream may
// wait for the peer to take them. Then a writer goroutine continues, and the reader
// reads again. Otherwise two peers that write before they read could wait for each
// other.
const ownPatience = 10 * time.Millisecond

// progressChecks is how often within WriteTimeout a blocked writer checks for
// progress.
const progressChecks = 4

// write writes the queued bytes. Stream.Write blocks while the peer's windows are
// full. Only the writer's goroutine waits for that, or the reader for at most
// ownPatience; then it starts a writer.
func (st *stream) write(asReader bool) {
	var gathered *buffer
	c := st.conn
	defer func() { c.freeWriteBuffer(gathered) }()
	for {
		b := st.out.Next()
		var n int
		var err error
		switch {
		case len(b) == 0:
			if !st.more() {
				return
			}
			continue
		case c.compat:
			n, err = st.writePacket(b)
			c.wrote(n)
		case len(b) < gatherBelow:
			if gathered == nil {
				gathered = c.newWriteBuffer(burstSize)
			}
			b = st.gather(gathered.b, b)
			if !st.writeTaken(gathered, b, asReader) {
				gathered = nil
				return
			}
			continue
		default:
			n, err = st.writeAll(b, asReader)
			st.out.Done(n)
			c.wrote(n)
			if errors.Is(err, errHandOver) {
				c.work.Go(func() { st.write(false) })
				return
			}
		}
		if err != nil {
			st.broken(err)
			return
		}
	}
}

// writeTaken writes b, which is in buf, and not or no longer in the outbox. It
// reports whether the caller is still the writer; if not, the caller must not use
// buf any more.
func (st *stream) writeTaken(buf *buffer, b []byte, asReader bool) bool {
	c := st.conn
	n, err := st.writeAll(b, asReader)
	c.inHand.Add(-int64(n))
	c.wrote(n)
	switch {
	case err == nil:
		return true
	case errors.Is(err, errHandOver):
		c.work.Go(func() {
			if st.writeTaken(buf, b[n:], false) {
				c.freeWriteBuffer(buf)
				st.write(false)
			}
		})
	default:
		c.freeWriteBuffer(buf)
		st.broken(err)
	}
	return false
}

// errHandOver makes a reader start a writer. It is internal.
var errHandOver = errors.New("quicbridge: a writer goes on")

// writeAll writes b on the stream, which it opens if necessary. With errHandOver it
// returns how many bytes were written; in all other cases, failures included, it
// returns the length of b. It closes the connection if the peer takes nothing for
// WriteTimeout.
func (st *stream) writeAll(b []byte, asReader bool) (int, error) {
	if st.quic == nil {
		if err := st.open(); err != nil {
			return len(b), err
		}
	}
	if asReader && st.tryWrite(b) {
		return len(b), nil
	}
	limit := st.conn.limits.WriteTimeout
	patience := limit / progressChecks
	if asReader {
		st.mayWait()
		patience = ownPatience
	}
	now := time.Now()
	for written, last := 0, now; ; {
		st.allow(now, patience)
		n, err := st.quic.Write(b[written:])
		st.direct = 0
		written += n
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return len(b), err
		}
		switch now = time.Now(); {
		case asReader:
			return written, errHandOver
		case n > 0:
			last = now
		case now.Sub(last) >= limit:
			st.conn.fail(engine.ErrWriteTimeout)
			return len(b), engine.ErrWriteTimeout
		}
	}
}

// allow sets the deadline of a Stream.Write that begins now to about d, or to none
// if d is 0. It keeps a deadline that is close enough, because setting one costs
// more than most writes.
func (st *stream) allow(now time.Time, d time.Duration) {
	if d == 0 {
		if !st.deadline.IsZero() {
			st.deadline = time.Time{}
			_ = st.quic.SetWriteDeadline(st.deadline) // it never fails
		}
		return
	}
	if left := st.deadline.Sub(now); left < d/2 || left > d {
		st.deadline = now.Add(d)
		_ = st.quic.SetWriteDeadline(st.deadline)
	}
}

// awaitOpening returns a context for opening a stream. Opening blocks until the
// peer allows one more stream, at most for WriteTimeout.
func (c *conn) awaitOpening() (context.Context, context.CancelFunc) {
	if c.limits.WriteTimeout == 0 {
		return c.quic.Context(), func() {}
	}
	return context.WithTimeout(c.quic.Context(), c.limits.WriteTimeout)
}

// openFailed closes the connection if err is a timeout of awaitOpening, and returns
// the reason.
func (c *conn) openFailed(err error) error {
	if errors.Is(err, context.DeadlineExceeded) && c.quic.Context().Err() == nil {
		c.fail(engine.ErrWriteTimeout)
		return engine.ErrWriteTimeout
	}
	return err
}

// gatherBelow is the size in bytes from which on a piece of the outbox is written
// by itself.
const gatherBelow = 32 << 10

// gather moves b, the outbox's next piece, and the following pieces that fit to the
// buffer to. One call then writes them all, and quic-go sends fewer, fuller batches
// of packets.
func (st *stream) gather(to, b []byte) []byte {
	n := 0
	for len(b) > 0 && n < len(to) {
		k := copy(to[n:], b)
		n += k
		st.conn.inHand.Add(int64(k))
		st.out.Done(k)
		b = st.out.Next()
	}
	return to[:n]
}

// open opens the stream. It blocks until the peer allows one more.
func (st *stream) open() error {
	c := st.conn
	ctx, cancel := c.awaitOpening()
	q, err := c.quic.OpenStreamSync(ctx)
	cancel()
	if err != nil {
		return c.openFailed(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase == phaseEnded {
		return c.reason
	}
	st.opened(q)
	c.spawn(st.readOurs)
	return nil
}
