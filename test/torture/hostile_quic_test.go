package torture_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/quicbridge"
)

// dialQUIC makes a connection of quic-go's own. nil means that it failed, which
// is reported as a failure of the server.
func (r *run) dialQUIC(cfg *quic.Config) *quic.Conn {
	trust := r.server.roots.Clone()
	trust.NextProtos = []string{quicbridge.ALPN}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	q, err := quic.DialAddr(ctx, r.server.addr, trust, cfg)
	if err != nil {
		r.failf("QUIC: the server can't be reached: %v", err)
		return nil
	}
	return q
}

// openStream opens a stream with deadlines.
func (r *run) openStream(q *quic.Conn) *quic.Stream {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	s, err := q.OpenStreamSync(ctx)
	if err != nil {
		r.failf("QUIC: no stream: %v", err)
		return nil
	}
	_ = s.SetDeadline(time.Now().Add(testkit.Patience))
	return s
}

// endQUIC closes a connection with some code.
func endQUIC(c *rand.Rand, q *quic.Conn) {
	_ = q.CloseWithError(quic.ApplicationErrorCode(c.IntN(9)), "enough")
}

// visitStuckStreams leaves streams unfinished in the middle of a packet. The request on
// one correct stream must be answered.
func visitStuckStreams(r *run, c *rand.Rand) {
	q := r.dialQUIC(nil)
	if q == nil {
		return
	}
	defer endQUIC(c, q)
	packet := request(7, noise(c, 2<<10))
	for range maxStreams - 1 {
		s := r.openStream(q)
		if s == nil {
			return
		}
		if _, err := s.Write(packet[:1+c.IntN(len(packet)-1)]); err != nil {
			r.failf("QUIC stuck streams: %v", err)
			return
		}
	}
	s := r.openStream(q)
	if s == nil {
		return
	}
	_, err := s.Write(packet)
	got := make([]byte, len(packet))
	if err == nil {
		_, err = io.ReadFull(s, got)
	}
	if err != nil || binary.BigEndian.Uint32(got[4:]) != 7 {
		r.failf("QUIC stuck streams: the honest stream got % x: %v", got[:16], err)
	}
}

// visitUnreadStream sends requests without end, and never reads an answer.
func visitUnreadStream(r *run, c *rand.Rand) {
	q := r.dialQUIC(&quic.Config{InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10,
		InitialConnectionReceiveWindow: 4 << 10, MaxConnectionReceiveWindow: 4 << 10})
	if q == nil {
		return
	}
	defer endQUIC(c, q)
	s := r.openStream(q)
	if s == nil {
		return
	}
	_ = s.SetWriteDeadline(time.Now().Add(2 * time.Second))
	b := request(1, make([]byte, 8<<10))
	for range 16 << 10 { // 128 MiB
		if _, err := s.Write(b); err != nil {
			return
		}
	}
	r.failf("QUIC unread replies: the server read 128 MiB of requests without a reader for the answers")
}

// visitHugePacket declares a packet above the limit, which must have its own close code.
func visitHugePacket(r *run, c *rand.Rand) {
	q := r.dialQUIC(nil)
	if q == nil {
		return
	}
	defer endQUIC(c, q)
	s := r.openStream(q)
	if s == nil {
		return
	}
	head := []byte{1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint32(head[10:], uint32(limits.MaxMessageSize+1+c.IntN(1<<30)))
	_, _ = s.Write(head)
	select {
	case <-q.Context().Done():
	case <-time.After(testkit.Patience):
		r.failf("QUIC oversized packet: the server doesn't end the connection")
		return
	}
	var end *quic.ApplicationError
	if err := context.Cause(q.Context()); !errors.As(err, &end) || end.ErrorCode != quicbridge.CodeTooLarge {
		r.failf("QUIC oversized packet: %v", err)
	}
}

// vanishEvery is the least time between two visits of visitVanished: the server
// keeps each connection until its IdleTimeout.
const vanishEvery = 200 * time.Millisecond

// visitVanished sends some bytes, and then closes its socket without a CONNECTION_CLOSE.
func visitVanished(r *run, c *rand.Rand) {
	r.nap(vanishEvery)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		r.failf("no socket: %v", err)
		return
	}
	tr := &quic.Transport{Conn: socket}
	defer tr.Close()
	defer socket.Close()
	to, err := net.ResolveUDPAddr("udp4", r.server.addr)
	if err != nil {
		r.failf("%v", err)
		return
	}
	trust := r.server.roots.Clone()
	trust.NextProtos = []string{quicbridge.ALPN}
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	q, err := tr.Dial(ctx, to, trust, nil)
	if err != nil {
		r.failf("QUIC: the server can't be reached: %v", err)
		return
	}
	if s := r.openStream(q); s != nil {
		_, _ = s.Write(request(1, noise(c, c.IntN(1000))))
	}
}

// visitHalfQUIC gives up a handshake in the middle, or offers a protocol that the
// server doesn't support.
func visitHalfQUIC(r *run, c *rand.Rand) {
	trust := r.server.roots.Clone()
	if c.IntN(2) == 0 {
		trust.NextProtos = []string{"something-else"}
		ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
		defer cancel()
		if q, err := quic.DialAddr(ctx, r.server.addr, trust, nil); err == nil {
			r.failf("QUIC: an unknown protocol was negotiated")
			endQUIC(c, q)
		} else if ctx.Err() != nil {
			r.failf("QUIC: the server doesn't answer a wrong ALPN: %v", err)
		}
		return
	}
	trust.NextProtos = []string{quicbridge.ALPN}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(c.IntN(5_000))*time.Microsecond)
	defer cancel()
	if q, err := quic.DialAddr(ctx, r.server.addr, trust, nil); err == nil {
		endQUIC(c, q)
	}
}

// visitGarbageDatagrams sends noise of all sizes, some of it with the first
// bytes of QUIC.
func visitGarbageDatagrams(r *run, c *rand.Rand) {
	u, err := net.Dial("udp4", r.server.addr)
	if err != nil {
		r.failf("no socket: %v", err)
		return
	}
	defer u.Close()
	for range 100 {
		b := noise(c, 1+c.IntN(1<<c.IntN(16)))
		if len(b) > 5 {
			switch c.IntN(3) {
			case 0: // an Initial packet of version 1, with random ids
				b[0] = 0xc0 | b[0]&0x0f
				binary.BigEndian.PutUint32(b[1:], 1)
				b[5] %= 21
			case 1: // a short header
				b[0] = 0x40 | b[0]&0x3f
			}
		}
		_, _ = u.Write(b)
	}
}
