package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"time"
)

// seats opens sessions on cores of its choice: the engine assigns sessions to its cores in
// turn, in the order of accept, on all listeners. All sessions of the server must be opened through it.
type seats struct {
	addr  netip.AddrPort
	cores int
	next  int // sessions so far
	conns []*net.TCPConn
	count map[int]int // of conns, by core
}

// blockedCore is the core whose handler sleeps.
const blockedCore = 0

// dial opens the next session, and returns its core.
func (s *seats) dial(ctx context.Context, addr netip.AddrPort) (*net.TCPConn, int, error) {
	conn, err := dialSlow(ctx, addr)
	if err != nil {
		return nil, 0, err
	}
	// Small, so that the time of a write shows when the server reads.
	if err := conn.SetWriteBuffer(slowBuffer); err != nil {
		conn.Close()
		return nil, 0, err
	}
	core := s.next % s.cores
	s.next++
	s.conns = append(s.conns, conn)
	s.count[core]++
	return conn, core, nil
}

// blocked opens n sessions on the blocked core, and idle ones on the others.
func (s *seats) blocked(ctx context.Context, addr netip.AddrPort, n int) (conns []*net.TCPConn, err error) {
	for len(conns) < n {
		conn, core, err := s.dial(ctx, addr)
		if err != nil {
			return nil, err
		}
		if core == blockedCore {
			conns = append(conns, conn)
		}
	}
	return conns, nil
}

// elsewhere makes the next session, which the caller opens, one of another core.
func (s *seats) elsewhere(ctx context.Context) error {
	if s.next%s.cores == blockedCore {
		if _, _, err := s.dial(ctx, s.addr); err != nil {
			return err
		}
	}
	s.next++
	return nil
}

// check compares the cores of the sessions with the server's, when it has all of them.
func (s *seats) check(ctx context.Context, server *child) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		counts, err := ask[map[int]int](ctx, server, "cores", struct{}{})
		if err != nil || maps.Equal(counts, s.count) {
			return err
		}
		total := 0
		for _, n := range counts {
			total += n
		}
		if total >= len(s.conns) || time.Now().After(deadline) {
			return fmt.Errorf("the server has sessions %v by core, want %v: it doesn't assign them in turn", counts, s.count)
		}
	}
}

func (s *seats) close() {
	for _, conn := range s.conns {
		conn.Close()
	}
}
