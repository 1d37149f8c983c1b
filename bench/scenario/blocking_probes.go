package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/millrace/millrace/framing"
)

const (
	probeLead   = 10 * time.Millisecond // from the request of a sleep to the probe; the handler sleeps by then
	probeBuffer = 32 << 10              // bytes of a server's socket buffers, which Linux doubles
	probeFill   = 512 << 10             // bytes of a reply that no socket buffer holds
	probeBurst  = 16                    // requests of probeEach, more than the socket buffers and less than a ring
	probeEach   = 32 << 10              // bytes

	probeShort = 20 * time.Millisecond // a first sleep, during which messages wait

	// The engine's deadlines have ticks of 50 ms: one fires up to two ticks late. The
	// sleep of that probe begins before the deadline and ends after these.
	probeHandshake     = 500 * time.Millisecond
	probeDeadlineLead  = 50 * time.Millisecond
	probeDeadlineSleep = 400 * time.Millisecond
	deadlineTicks      = 100 * time.Millisecond
)

// probes are sessions of the blocked core, which are observed while its handler sleeps.
type probes struct {
	sleeper, full, burst, flush *net.TCPConn

	seats     *seats
	handshake netip.AddrPort // a listener whose sessions begin with a handshake
	sleep     time.Duration  // 0 for none
	times     int            // that each probe is made
	number    uint32         // of the last message
}

// probeSessions is how many sessions use takes.
const probeSessions = 4

func (p *probes) use(conns []*net.TCPConn) {
	p.sleeper, p.full, p.burst, p.flush = conns[0], conns[1], conns[2], conns[3]
}

// probeValues are the times of each kind.
type probeValues struct{ full, burst, own, other, deadline []time.Duration }

// run makes each probe.
func (p *probes) run(ctx context.Context) (v probeValues, err error) {
	interrupt := context.AfterFunc(ctx, func() {
		for _, conn := range []*net.TCPConn{p.sleeper, p.full, p.burst, p.flush} {
			conn.Close()
		}
	})
	defer interrupt()
	for range p.times {
		for _, kind := range []struct {
			name  string
			probe func() (time.Duration, error)
			to    *[]time.Duration
		}{
			{"the rest of a full socket", p.probeFull, &v.full},
			{"a burst of requests", p.probeBurst, &v.burst},
			{"a reply before the session's own sleep", p.probeOwn, &v.own},
			{"a reply before another session's sleep", p.probeOther, &v.other},
		} {
			took, err := kind.probe()
			if err != nil {
				return v, fmt.Errorf("%s: %w", kind.name, err)
			}
			*kind.to = append(*kind.to, took)
		}
	}
	v.deadline, err = p.probeDeadlines(ctx)
	if err != nil {
		err = fmt.Errorf("a deadline: %w", err)
	}
	return v, err
}

func (p *probes) nextID() uint32 {
	p.number++
	return p.number
}

// during calls f while the handler of another session sleeps for d.
func (p *probes) during(d time.Duration, f func() error) error {
	request, reply := sleepRequest(p.nextID(), d)
	if _, err := p.sleeper.Write(request); err != nil {
		return err
	}
	time.Sleep(probeLead)
	if err := f(); err != nil {
		return err
	}
	return expect(p.sleeper, reply)
}

// probeFull lets a reply fill the socket, and returns how long the rest takes to arrive
// from when the client reads.
func (p *probes) probeFull() (took time.Duration, err error) {
	request, reply := fillRequest(p.nextID(), probeFill)
	if _, err := p.full.Write(request); err != nil {
		return 0, err
	}
	// The handler has run when the first bytes are there.
	if err := expect(p.full, reply[:framing.PacketHeaderSize]); err != nil {
		return 0, err
	}
	err = p.during(p.sleep, func() error {
		start := time.Now()
		err := expect(p.full, reply[framing.PacketHeaderSize:])
		took = time.Since(start)
		return err
	})
	return took, err
}

// probeBurst sends more requests than the sockets hold, and returns how long it takes
// until the system has accepted all of them: the server must have read the first ones.
func (p *probes) probeBurst() (took time.Duration, err error) {
	var requests, replies []byte
	for range probeBurst {
		id := p.nextID()
		request, reply := requestAndReply(id, 0, broadcastPayload(probeEach, id))
		requests, replies = append(requests, request...), append(replies, reply...)
	}
	err = p.during(p.sleep, func() error {
		received := make(chan error, 1)
		go func() { received <- expect(p.burst, replies) }() // else the replies would stop the server's reading
		start := time.Now()
		_, writeErr := p.burst.Write(requests)
		took = time.Since(start)
		return errors.Join(writeErr, <-received)
	})
	return took, err
}

// probeOwn sends a request and the request of a sleep with one write, and returns how
// long the first one's reply takes.
func (p *probes) probeOwn() (time.Duration, error) {
	first, reply := requestAndReply(p.nextID(), 0, []byte("before"))
	second, slept := sleepRequest(p.nextID(), p.sleep)
	start := time.Now()
	if err := exchange(p.flush, append(first, second...), reply); err != nil {
		return 0, err
	}
	took := time.Since(start)
	return took, expect(p.flush, slept)
}

// probeOther makes a request and then the sleep of another session wait together for the
// end of a short sleep, and returns how long after that end the reply comes.
func (p *probes) probeOther() (time.Duration, error) {
	short, awake := sleepRequest(p.nextID(), probeShort)
	first, reply := requestAndReply(p.nextID(), 0, []byte("before"))
	second, slept := sleepRequest(p.nextID(), p.sleep)
	start := time.Now()
	if _, err := p.sleeper.Write(short); err != nil {
		return 0, err
	}
	time.Sleep(probeShort / 2)
	if _, err := p.burst.Write(first); err != nil {
		return 0, err
	}
	if _, err := p.flush.Write(second); err != nil {
		return 0, err
	}
	if err := expect(p.burst, reply); err != nil {
		return 0, err
	}
	took := time.Since(start) - probeShort
	return took, errors.Join(expect(p.sleeper, awake), expect(p.flush, slept))
}

// probeDeadlines opens sessions that never make their handshake, and returns how long
// after the timeout the server ends each of those on the blocked core.
func (p *probes) probeDeadlines(ctx context.Context) (late []time.Duration, err error) {
	var waiting sync.WaitGroup
	late, errs := make([]time.Duration, p.times), make([]error, p.times)
	for i := range p.times {
		begin := time.Now()
		conns, err := p.seats.blocked(ctx, p.handshake, 1)
		if err != nil {
			errs[i] = err
			break
		}
		waiting.Go(func() {
			errs[i] = awaitEnd(conns[0])
			late[i] = time.Since(begin) - probeHandshake
		})
	}
	time.Sleep(probeHandshake - probeDeadlineLead)
	sleep := probeDeadlineSleep
	if p.sleep == 0 {
		sleep = 0
	}
	err = p.during(sleep, func() error {
		waiting.Wait()
		return errors.Join(errs...)
	})
	return late, err
}

// awaitEnd returns when the server ends the connection.
func awaitEnd(conn *net.TCPConn) error {
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, conn)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}
