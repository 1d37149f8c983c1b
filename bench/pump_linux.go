package bench

import (
	"io"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
	"golang.org/x/sys/unix"
)

const (
	pumpReadSize  = 64 << 10 // bytes a pump
	pumpWriteSize = 64 << 10 // bytes a Write at most, if a Write may have several requests
)

// A carrier is a connection whose bytes are moved by goroutines, not by a loop. It has
// one session, or one for each stream.
type carrier struct {
	tally
	load  *load
	mu    sync.Mutex // guards the tally's histogram
	pumps []*pump
	close func()
}

// newCarrier makes the carrier of a connection that end closes.
func newCarrier(l *load, end func()) *carrier {
	return &carrier{load: l, close: end, tally: tally{latency: newLatency()}}
}

func (c *carrier) add(p *pump) {
	p.owner, p.wake = c, make(chan struct{}, 1)
	c.pumps = append(c.pumps, p)
}

// A pump moves one session's bytes with two goroutines that block, a reader and a
// writer. If quic is set, it is one goroutine with a stream for each request.
type pump struct {
	owner      *carrier
	stream     io.ReadWriter
	cancelRead func() // makes a blocked Read of the stream return
	quic       *quic.Conn
	mu         sync.Mutex // guards s
	s          *session
	wake       chan struct{} // the writer's
	timer      *time.Timer   // the writer's
}

// start starts the goroutines.
func (p *pump) start(running *sync.WaitGroup) {
	if p.quic != nil {
		running.Go(p.exchange)
		return
	}
	running.Go(p.read)
	running.Go(p.write)
}

// read verifies the received bytes until the session ends.
func (p *pump) read() {
	buffer := make([]byte, pumpReadSize)
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
	c := p.owner
	c.replies.Add(p.s.answered - before)
	c.bytes.Add(int64(len(b)))
	c.mu.Lock()
	c.record(c.load, p.s, before)
	c.mu.Unlock()
}

// over reports whether the end of the stream is expected. p.mu is held.
func (p *pump) over() bool {
	return p.owner.load.stop.Load() || p.s.ending && !p.s.outstanding()
}

// fail is called with p.mu held.
func (p *pump) fail(f *fault) {
	p.s.failed = f
	p.owner.load.failures.Add(1)
}

// lose fails the session because of err, unless its end is expected.
func (p *pump) lose(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.s.failed == nil && !p.over() {
		p.fail(p.s.lost(err))
	}
}

// write writes the due bytes until the session ends: all with one Write, or one request
// with each Write in a load of separate clients. Then it ends the reader too.
func (p *pump) write() {
	defer p.cancelRead()
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
			p.lose(err)
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
	limit := pumpWriteSize
	if l.cfg.Separate {
		limit = p.s.nextFrame()
	}
	b = b[:min(len(b), limit)]
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
	if p.timer == nil {
		p.timer = time.NewTimer(d - time.Millisecond)
	} else {
		p.timer.Reset(d - time.Millisecond)
	}
	select {
	case <-p.wake:
	case <-p.timer.C:
	}
}
