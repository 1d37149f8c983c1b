package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// sleepers are sessions whose handler sleeps in one of some messages. Each sends its
// messages at a fixed rate, and the next only after the reply.
type sleepers struct {
	running sync.WaitGroup
	ending  chan struct{}
	sleeps  atomic.Int64 // that were answered
	stop    func() error // ends them; later calls return the same

	mu      sync.Mutex // guards failure
	failure error
}

// startSleepers loads conns. A sleep of 0 sends the same messages, and no handler sleeps.
func startSleepers(ctx context.Context, conns []*net.TCPConn, rate float64, every int, sleep time.Duration) *sleepers {
	s := &sleepers{ending: make(chan struct{})}
	s.stop = sync.OnceValue(func() error {
		close(s.ending)
		s.running.Wait()
		return s.failure
	})
	interval := time.Duration(float64(len(conns)) * float64(time.Second) / rate)
	for i, conn := range conns {
		s.running.Go(func() {
			// Their sleeps come at different times.
			err := s.run(ctx, conn, interval, i*every/len(conns), every, sleep)
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil && s.failure == nil {
				s.failure = fmt.Errorf("session %d of the sleeping handler: %w", i, err)
			}
		})
	}
	return s
}

// run asks until the end. Message number n makes the handler sleep if n is a multiple of
// every.
func (s *sleepers) run(ctx context.Context, conn *net.TCPConn, interval time.Duration, n, every int, sleep time.Duration) error {
	interrupt := context.AfterFunc(ctx, func() { conn.Close() })
	defer interrupt()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-s.ending:
			return nil
		case <-tick.C:
		}
		n++
		var d time.Duration
		if n%every == 0 {
			d = sleep
		}
		request, reply := sleepRequest(uint32(n), d)
		if err := exchange(conn, request, reply); err != nil {
			return err
		}
		if d > 0 {
			s.sleeps.Add(1)
		}
	}
}

// exchange writes request and verifies the reply.
func exchange(conn *net.TCPConn, request, reply []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	return expect(conn, reply)
}

// expect reads want.
func expect(conn *net.TCPConn, want []byte) error {
	got := make([]byte, len(want))
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("a reply differs from the expected one")
	}
	return nil
}
