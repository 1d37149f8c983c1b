package quicbridge

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// errTruncated is the error for a stream that ends in the middle of a packet.
var errTruncated = fmt.Errorf("%w: %w: %w", engine.ErrProtocol, framing.ErrMalformed, io.ErrUnexpectedEOF)

// reader holds the fields that only a stream's reading goroutine uses. Other
// goroutines read lastMessage and empty after it has ended.
type reader struct {
	one         [1]byte // to wait for data without a buffer
	m           framing.Message
	delivery    engine.Delivery
	delivering  bool    // between delivery's Begin and End
	replied     *buffer // the memory of the replies, if the reader is the writer
	lastMessage time.Time
	holding     holding
	accepting   bool // the goroutine also accepts the connection's streams
	discard     bool // the session takes no more messages
	empty       bool // the stream ended without a byte
	over        bool // ended was called
}

// read reads the stream until its end. It blocks until then.
func (st *stream) read() {
	if err := st.receive(); err != nil {
		st.conn.fail(err)
	}
	st.ended()
}

// readOurs is the reading goroutine of a stream that this side has opened.
func (st *stream) readOurs() {
	st.conn.awaitPort()
	st.read()
}

// mayWait is called before the reader may have to wait for the peer, or for other
// readers. If it also accepts streams, another goroutine continues to accept, so that
// a stream that waits does not delay others. It need not be called where no stream of
// the session could continue: while the session is paused, while a callback runs, and
// while the core's ring is full.
func (st *stream) mayWait() {
	if st.in.accepting {
		st.in.accepting = false
		st.conn.work.Go(st.conn.acceptStreams)
	}
}

// acceptPatience is how long the accepting goroutine may wait for a finished stream
// whose first packets arrive after its last one.
const acceptPatience = time.Millisecond

// awaitData blocks until the stream has data or has ended, and returns the error with
// which it has ended. first is set before the first data.
func (st *stream) awaitData(first bool) error {
	q, one := st.quic, st.in.one[:]
	if first && st.in.accepting && sizeKnown(q) {
		_ = q.SetReadDeadline(time.Now().Add(acceptPatience)) // it never fails
		_, err := q.Peek(one)
		_ = q.SetReadDeadline(time.Time{})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
	}
	st.mayWait()
	_, err := q.Peek(one)
	return err
}

// sizeKnown reports whether the peer has finished or reset the stream. Its data may
// still be incomplete.
func sizeKnown(q interface{ SetReceiveFinalSizeCallback(func(int64)) }) bool {
	var known atomic.Bool
	q.SetReceiveFinalSizeCallback(func(int64) { known.Store(true) }) // it is called at once, or later
	return known.Load()
}

// grow takes memory for a buffer of size bytes, and blocks until there is enough.
func (st *stream) grow(size int) error {
	if st.in.holding.bytes >= size {
		return nil
	}
	st.mayWait()
	return st.conn.intake.grow(&st.in.holding, size)
}

// receive delivers the stream's messages until the peer finishes it or the
// connection ends. It returns an error only if the peer violated the protocol.
func (st *stream) receive() error {
	in, h := &st.conn.intake, &st.in.holding
	var buf *buffer
	n := 0 // bytes of an incomplete packet in buf
	defer func() {
		buf.free()
		in.leave(h)
	}()
	for first := true; ; first = false {
		// An idle stream waits here, and holds no buffer.
		err := st.awaitData(first)
		in.resume(h, burstSize)
		if err != nil {
			_, err = st.quic.Read(st.in.one[:]) // quic-go frees a stream only when Read has returned its error
			st.in.empty = first && err == io.EOF
			return st.endError(err, n)
		}
		st.conn.awaitResume()
		st.awaitRoom()
		if err := st.grow(burstSize); err != nil {
			return err
		}
		if buf.size() < burstSize {
			buf = buf.resized(n, burstSize)
		}
		if buf, n, err = st.burst(buf, n); err != nil {
			return st.endError(err, n)
		}
		switch {
		case n == 0:
			buf.free()
			buf = nil
		case n <= tailSize:
			buf = buf.resized(n, tailSize)
		}
		in.park(h, buf.size(), n)
	}
}

// burst reads and delivers until no more data has arrived. It returns the buffer,
// which may be another one, and how many bytes of an incomplete packet are at its
// start.
func (st *stream) burst(buf *buffer, n int) (*buffer, int, error) {
	limit := framing.PacketHeaderSize + st.conn.limits.MaxMessageSize
	for {
		room := buf.b[n:]
		k, readErr := st.quic.Read(room)
		n += k
		used, err := st.deliver(buf.b[:n])
		if readErr == io.EOF && used == n && err == nil {
			st.ended() // before the last reply, so that it leaves together with the FIN
		}
		st.endDelivery()
		if err != nil {
			return buf, 0, err
		}
		if used > 0 {
			n = copy(buf.b, buf.b[used:n])
			st.in.holding.mark = 0 // the rest is another packet
		}
		switch {
		case readErr != nil:
			return buf, n, readErr
		case k < len(room):
			return buf, n, nil
		}
		st.mayWait()
		st.conn.awaitResume()
		st.awaitRoom()
		if n == len(buf.b) {
			size := buf.next(limit)
			if err := st.grow(size); err != nil {
				return buf, n, err
			}
			buf = buf.resized(n, size)
		}
	}
}

// deliver delivers every whole packet at the start of b to the session, and returns
// how many bytes they took.
func (st *stream) deliver(b []byte) (int, error) {
	if st.in.discard {
		return len(b), nil
	}
	used := 0
	m := &st.in.m
	for used < len(b) {
		n, err := framing.Packet{}.Decode(b[used:], 0, st.conn.limits.MaxMessageSize, m)
		if err != nil {
			return used, fmt.Errorf("%w: %w", engine.ErrProtocol, err)
		}
		if n == 0 {
			break
		}
		if !st.in.delivering || st.conn.held() { // the pause also applies to data already read
			st.endDelivery()
			if st.conn.held() {
				st.mayWait()
			}
			st.conn.awaitResume()
			st.awaitShare()
			st.beginDelivery(len(b) - used)
		}
		used += n
		m.Stream = st.handle
		st.asked(m) // before the handler can answer it
		if st.in.delivery.Message(m) != nil {
			st.in.discard = true // the session is closing: read on only to find the FIN
			return len(b), nil
		}
	}
	if used > 0 {
		st.in.lastMessage = time.Now()
		*m = framing.Message{} // or it would keep the buffer alive
	}
	return used, nil
}

// beginDelivery prepares for about hint bytes of messages. In Inline dispatch, if
// the stream has no writer, the reader becomes the writer too, and collects the
// replies to its own stream in a buffer.
func (st *stream) beginDelivery(hint int) {
	r, c := &st.in, st.conn
	r.delivering = true
	c.delivering.Add(1)
	if !c.inline || !st.becomeWriter() {
		r.delivery.Begin(c.port, hint)
		return
	}
	r.delivery.Begin(c.port, hint)
	r.replied = c.newWriteBuffer(min(burstSize, 2*hint)) // replies that don't fit go through the outbox
	// Begin lets only one reader of the connection continue at a time. So all
	// readers together stay within OutboxLimit.
	if room := int64(c.limits.OutboxLimit) - c.queued.Load(); room > 0 {
		r.delivery.Collect(r.replied.b[:0:min(room, int64(len(r.replied.b)))], st.handle)
		if st.out.Pending() > 0 {
			st.in.delivery.StopCollecting() // the pending bytes go first
		}
	}
}

// endDelivery ends a delivery that beginDelivery began. If the reader is the
// writer, it then writes the replies itself, which is cheaper than starting a
// goroutine.
func (st *stream) endDelivery() {
	r, c := &st.in, st.conn
	if !r.delivering {
		return
	}
	r.delivering = false
	c.delivered.Add(1)
	c.delivering.Add(-1)
	buf := r.replied
	if buf == nil {
		r.delivery.End()
		return
	}
	b, responses, oneWays := r.delivery.Collected()
	c.queued.Add(int64(len(b)))
	c.inHand.Add(int64(len(b)))
	r.delivery.End()
	r.replied = nil
	// A Request that was cancelled after its Response now counts as a OneWay.
	countOff(&st.oneWays, responses-countOff(&st.requests, responses))
	countOff(&st.oneWays, oneWays)
	if len(b) == 0 || st.writeTaken(buf, b, true) {
		c.freeWriteBuffer(buf)
		st.write(true)
	}
}

// becomeWriter makes the reader the stream's writer if there is none.
func (st *stream) becomeWriter() bool {
	c := st.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if st.writing || st.finishing || c.phase != phaseOpen {
		return false
	}
	st.writing = true
	return true
}

// held reports whether awaitResume or awaitShare may have to wait.
func (c *conn) held() bool {
	return c.paused.Load() || !c.dialed && c.queued.Load() > int64(c.limits.OutboxLimit/4)
}

// endError returns the error for the connection when the stream's data has ended
// with err and n bytes of a packet are left: nil unless the peer violated the
// protocol.
func (st *stream) endError(err error, n int) error {
	switch {
	case errors.Is(err, engine.ErrProtocol):
		return err
	case err == io.EOF && n > 0:
		return errTruncated
	default:
		// The peer finished or reset the stream, or the connection is gone. run
		// detects the last case itself.
		return nil
	}
}

// awaitRoom blocks while the peer does not read the replies on this stream.
//
// Only the accepting side waits. If both sides waited, two sides that send more
// than their soft marks to each other would wait for ever. A dialed session whose
// peer does not read is bounded by OutboxLimit.
func (st *stream) awaitRoom() {
	if st.conn.dialed {
		return
	}
	if st.out.Pending() > st.conn.limits.OutboxSoftMark {
		st.conn.beginWait()
		st.out.AwaitRoom()
		st.conn.endWait()
	}
	st.awaitShare()
}

// awaitShare blocks while more than a quarter of OutboxLimit is queued for a peer
// that does not read its replies. It does not block if this stream has nothing
// queued and no unanswered Request. So other streams continue while some are stuck,
// with one message at a time. The rest of OutboxLimit is for the replies to
// messages that are already being handled.
func (st *stream) awaitShare() {
	c := st.conn
	mark := int64(c.limits.OutboxLimit / 4)
	if c.dialed || c.queued.Load() <= mark {
		return
	}
	c.beginWait()
	defer c.endWait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.phase == phaseOpen && c.recount() > mark &&
		(st.writing || st.out.Pending() > 0 || !st.stopped && st.requests.Load() > 0) {
		c.wake.Wait()
	}
}
