package bench

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"
)

const (
	quicALPN      = "millrace/1"    // docs/WIRE.md section 3
	quicIdle      = 5 * time.Second // after which a silent server counts as dead
	quicReadSize  = 64 << 10        // bytes a stream
	quicWriteSize = 64 << 10        // bytes a Write at most
)

// A quicConn is a connection with its streams, each a session.
type quicConn struct {
	tally
	load  *load
	conn  *quic.Conn
	mu    sync.Mutex // guards the tally's histogram
	pumps []*pump
}

// A pump moves one stream's bytes with two goroutines, because both directions
// of quic-go block.
type pump struct {
	owner  *quicConn
	stream *quic.Stream
	mu     sync.Mutex // guards s
	s      *session
	wake   chan struct{} // the writer's
}

// dialQUIC connects and opens the streams. The server sees a stream when its first
// bytes arrive.
func dialQUIC(ctx context.Context, l *load, t target, cfg *tls.Config) (*quicConn, error) {
	cfg = cfg.Clone()
	cfg.NextProtos = []string{quicALPN}
	conn, err := quic.DialAddr(ctx, t.addr, cfg, &quic.Config{
		MaxIdleTimeout: quicIdle, KeepAlivePeriod: quicIdle / 5,
		InitialStreamReceiveWindow: 4 << 20, InitialConnectionReceiveWindow: 8 << 20,
	})
	if err != nil {
		return nil, err
	}
	q := &quicConn{load: l, conn: conn, tally: tally{latency: newLatency()}}
	for range l.cfg.Streams {
		stream, err := conn.OpenStream()
		if err != nil {
			q.close()
			return nil, fmt.Errorf("stream %d of %d: %w", len(q.pumps)+1, l.cfg.Streams, err)
		}
		q.pumps = append(q.pumps, &pump{owner: q, stream: stream, wake: make(chan struct{}, 1)})
	}
	return q, nil
}

func (q *quicConn) close() { _ = q.conn.CloseWithError(0, "") } // it is given up anyway

// read verifies the received bytes until the session ends.
func (p *pump) read() {
	buffer := make([]byte, quicReadSize)
	for {
		n, err := p.stream.Read(buffer)
		p.mu.Lock()
		if n > 0 && p.s.failed == nil {
			p.receive(buffer[:n])
		}
		if err != nil && p.s.failed == nil && !p.over() {
			p.fail(p.s.lost(err))
		}
		done := err != nil || p.s.failed != nil
		p.mu.Unlock()
		select {
		case p.wake <- struct{}{}:
		default: // it is awake
		}
		if done {
			return
		}
	}
}

// receive is called with p.mu held.
func (p *pump) receive(b []byte) {
	before := p.s.answered
	if f := p.s.receive(b); f != nil {
		p.fail(f)
		return
	}
	q := p.owner
	q.replies.Add(p.s.answered - before)
	q.bytes.Add(int64(len(b)))
	q.mu.Lock()
	q.record(q.load, p.s, before)
	q.mu.Unlock()
}

// over reports whether the end of the stream is expected. p.mu is held.
func (p *pump) over() bool {
	return p.owner.load.stop.Load() || p.s.ending && !p.s.outstanding()
}

func (p *pump) fail(f *fault) {
	p.s.failed = f
	p.owner.load.failures.Add(1)
}

// write writes the due bytes, all with one Write, until the session ends. Then it ends
// the reader too.
func (p *pump) write() {
	defer p.stream.CancelRead(0)
	for {
		b, next, done := p.outgoing()
		if done {
			return
		}
		if len(b) == 0 {
			p.sleep(next)
			continue
		}
		if _, err := p.stream.Write(b); err != nil {
			p.mu.Lock()
			if p.s.failed == nil && !p.over() {
				p.fail(p.s.lost(err))
			}
			p.mu.Unlock()
			return
		}
	}
}

// outgoing returns the bytes that may be written now, and counts them as sent, because
// the replies may arrive before Write returns. If there are none, next is the time to wait.
func (p *pump) outgoing() (b []byte, next time.Duration, done bool) {
	l := p.owner.load
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.failed != nil || l.stop.Load() {
		return nil, 0, true
	}
	if l.ending.Load() && !p.s.ending {
		p.s.end(l.to.Load())
	}
	p.s.started = p.s.started || l.now() >= p.s.startAt
	b = p.s.due(l.now)
	b = b[:min(len(b), quicWriteSize)]
	if len(b) > 0 {
		p.s.wrote(len(b), l.now)
		return b, 0, false
	}
	next = pollMillis * time.Millisecond
	if !p.s.started || p.s.schedule != nil && p.s.schedule.room(p.s.answered) {
		next = min(next, time.Duration(p.s.wakeAt()-l.now()))
	}
	return nil, next, p.s.ending && !p.s.outstanding()
}

// sleep waits for a reply, at most d. Go's timers count milliseconds, so
// for shorter times the thread sleeps.
func (p *pump) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	if d < 2*time.Millisecond {
		timeout := unix.NsecToTimespec(d.Nanoseconds())
		_ = unix.Nanosleep(&timeout, nil) // interrupted, the caller looks again
		return
	}
	timer := time.NewTimer(d - time.Millisecond)
	defer timer.Stop()
	select {
	case <-p.wake:
	case <-timer.C:
	}
}

// explainQUIC adds the likely cause to the handshake timeout of a silent server.
func explainQUIC(err error) error {
	var idle *quic.IdleTimeoutError
	var handshake *quic.HandshakeTimeoutError
	if errors.As(err, &idle) || errors.As(err, &handshake) {
		return fmt.Errorf("no QUIC server answers there: %w", err)
	}
	return err
}
