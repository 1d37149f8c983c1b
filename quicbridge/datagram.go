package quicbridge

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// errNoDatagrams is returned for a datagram to a peer that does not support them.
var errNoDatagrams = fmt.Errorf("%w: the peer takes no datagrams", framing.ErrUnencodable)

// tooLarge exceeds the datagram limit of every path. quic-go reports its current
// limit only in the error for such a datagram.
var tooLarge [64 << 10]byte

// datagramQueue holds datagrams until a writer passes them to quic-go, whose
// SendDatagram blocks while 32 are queued. It holds at most burstSize bytes; a
// datagram beyond that is dropped with engine.ErrWouldBlock.
type datagramQueue struct {
	conn      *conn
	supported bool // by the peer

	// Guarded by conn.mu.
	buf     *buffer // packets back to back; nil when there are none
	ends    []int   // where each packet ends in buf
	limit   int     // the largest packet that was known to fit, in bytes
	writing bool
}

func (d *datagramQueue) init(c *conn, supported bool) { d.conn, d.supported = c, supported }

// add queues a copy of m. It does not block.
func (d *datagramQueue) add(m *framing.Message) error {
	c := d.conn
	if !d.supported {
		return errNoDatagrams
	}
	size := framing.PacketHeaderSize + len(m.Ext) + len(m.Payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != phaseOpen {
		return c.reason
	}
	if size > d.limit {
		if d.limit = d.probe(); size > d.limit {
			return engine.ErrTooLarge
		}
	}
	used := 0
	if len(d.ends) > 0 {
		used = d.ends[len(d.ends)-1]
	}
	if used+size > burstSize {
		return engine.ErrWouldBlock
	}
	if d.buf == nil {
		d.buf = newBuffer(burstSize)
	}
	b, err := framing.AppendPacket(d.buf.b[:used], m)
	if err != nil {
		return err
	}
	d.ends = append(d.ends, len(b))
	return nil
}

// probe asks quic-go for the largest datagram that fits, in bytes.
func (d *datagramQueue) probe() int {
	var e *quic.DatagramTooLargeError
	if errors.As(d.conn.quic.SendDatagram(tooLarge[:]), &e) {
		return int(e.MaxDatagramPayloadSize)
	}
	return 0
}

// flush starts the writer if there is something to write. Under conn.mu.
func (d *datagramQueue) flush() {
	if len(d.ends) > 0 && !d.writing && d.conn.phase != phaseEnded {
		d.writing = true
		d.conn.spawn(d.write)
	}
}

// write passes queued datagrams to quic-go until none are left.
func (d *datagramQueue) write() {
	var buf *buffer
	var ends []int
	for {
		buf.free()
		d.conn.mu.Lock()
		buf, ends, d.buf, d.ends = d.buf, d.ends, nil, ends[:0]
		d.writing = len(ends) > 0
		if !d.writing {
			d.ends = nil // an idle session keeps no memory
		}
		d.conn.mu.Unlock()
		if len(ends) == 0 {
			return
		}
		start := 0
		for _, end := range ends {
			// It fails if the path has shrunk since, or if the connection is
			// gone; a datagram may be lost either way.
			_ = d.conn.quic.SendDatagram(buf.b[start:end])
			start = end
		}
	}
}

// receiveDatagrams delivers the packet of each datagram until the connection ends.
func (c *conn) receiveDatagrams() {
	m := new(framing.Message)
	for {
		b, err := c.quic.ReceiveDatagram(context.Background())
		if err != nil {
			return
		}
		c.awaitResume()
		n, err := framing.Packet{}.Decode(b, 0, c.limits.MaxMessageSize, m)
		switch {
		case err != nil:
			err = fmt.Errorf("%w: %w", engine.ErrProtocol, err)
		case n == 0:
			err = errTruncated
		case n < len(b):
			err = errTrailing
		}
		if err != nil {
			c.fail(err)
			return
		}
		m.Datagram = true
		_ = c.port.TryDeliver(m) // a drop is counted by the engine
		*m = framing.Message{}   // or it would keep the datagram alive
	}
}
