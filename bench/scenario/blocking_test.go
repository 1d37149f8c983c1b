package main

import (
	"context"
	"io"
	"maps"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/bench"
)

func TestBlocking(t *testing.T) {
	r := runSmall(t, "blocking", "--rounds", "1", "--duration", "400ms", "--sessions", "4", "--rate", "500",
		"--sleeper-rate", "2000", "--every", "20", "--sleep", "20ms", "--probes", "2")
	for _, dispatch := range []string{"inline, ", "workers, "} {
		if with, without := r.cell(t, dispatch+"with", "sleeps")[0], r.cell(t, dispatch+"without", "sleeps")[0]; with <= 0 || without != 0 {
			t.Errorf("%s: %v sleeps with, %v without", dispatch, with, without)
		}
		for _, row := range []string{"with", "without"} {
			for _, column := range []string{"messages", "p50", "p99", "p99.9", columnP99, columnFull, columnBurst, columnOwn, "client CPUs"} {
				if v := r.cell(t, dispatch+row, column); len(v) != 1 || v[0] <= 0 {
					t.Errorf("%s%s, %s: %v", dispatch, row, column, v)
				}
			}
		}
	}
	if len(r.Goals) != 6 {
		t.Errorf("goals: %+v", r.Goals)
	}
}

// TestSeats compares the predicted cores with a listener's order of accept.
func TestSeats(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, addr := context.Background(), netip.MustParseAddrPort(listener.Addr().String())
	s := &seats{addr: addr, cores: 3, count: map[int]int{}}
	defer s.close()
	blocked, err := s.blocked(ctx, addr, 2) // the sessions 0 to 3
	if err != nil {
		t.Fatal(err)
	}
	var others []net.Conn
	for range 3 { // the sessions 4 and 5, an idle one on core 0, and session 7
		if err := s.elsewhere(ctx); err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", addr.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		others = append(others, conn)
	}
	cores := map[string]int{}
	for i := range 8 {
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		cores[conn.RemoteAddr().String()] = i % 3
		conn.Close()
	}
	for _, conn := range blocked {
		if core := cores[conn.LocalAddr().String()]; core != blockedCore {
			t.Errorf("a blocked session is on core %d", core)
		}
	}
	for _, conn := range others {
		if core, ok := cores[conn.LocalAddr().String()]; !ok || core == blockedCore {
			t.Errorf("another session is on core %d, %v", core, ok)
		}
	}
	if want := map[int]int{0: 3, 1: 1, 2: 1}; !maps.Equal(s.count, want) {
		t.Errorf("counted %v, want %v", s.count, want)
	}
}

// TestSeatsOfTheServer checks the predicted cores with a server, and that a wrong
// prediction is found.
func TestSeatsOfTheServer(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(bench.ErrUnsupported)
	}
	ctx := context.Background()
	server, addr, err := startServer(ctx, "the server", serverSettings{Transport: "tcp", Cores: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	s := &seats{addr: addr, cores: 3, count: map[int]int{}}
	defer s.close()
	if _, err := s.blocked(ctx, addr, 3); err != nil {
		t.Fatal(err)
	}
	if err := s.check(ctx, server); err != nil {
		t.Error(err)
	}
	s.count[0]++
	if err := s.check(ctx, server); err == nil || !strings.Contains(err.Error(), "in turn") {
		t.Errorf("a wrong prediction: %v", err)
	}
}

// TestRequestsOfHandlers checks the replies to a sleep and to a request for much, and that
// a request above the bounds ends the session.
func TestRequestsOfHandlers(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip(bench.ErrUnsupported)
	}
	server, addr, err := startServer(context.Background(), "the server", serverSettings{Transport: "tcp"})
	if err != nil {
		t.Fatal(err)
	}
	defer server.stop()
	tooLong, _ := sleepRequest(1, maxSleep+1)
	tooMuch, _ := fillRequest(1, maxFill+1)
	for _, bad := range [][]byte{tooLong, tooMuch} {
		conn, err := dialSlow(context.Background(), addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		for _, ask := range []func() (request, reply []byte){
			func() (request, reply []byte) { return sleepRequest(7, time.Millisecond) },
			func() (request, reply []byte) { return fillRequest(8, 100_000) },
		} {
			request, reply := ask()
			if err := exchange(conn, request, reply); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Write(bad); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("[% x] is answered: %v", bad, err)
		}
	}
}

// TestWrongReply checks that a sleeper finds a reply that differs.
func TestWrongReply(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.Copy(conn, conn) // Requests instead of Responses
	}()
	conn, err := dialSlow(context.Background(), netip.MustParseAddrPort(listener.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := startSleepers(context.Background(), []*net.TCPConn{conn}, 1000, 4, time.Millisecond)
	s.running.Wait()
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "differs") || s.sleeps.Load() != 0 {
		t.Errorf("%v, %d sleeps", err, s.sleeps.Load())
	}
}

// TestBlockingGoals checks the figures that the goals compare.
func TestBlockingGoals(t *testing.T) {
	for _, c := range []struct {
		p99     float64
		with    []float64 // full, burst, own, other, deadline
		reached int
	}{
		{1.1, []float64{3e6, 1.5e6, 1e6, 1e6, 101e6}, 6},
		{1.11, []float64{3e6 + 1, 1.5e6 + 1, 1e6 + 1, 1e6 + 1, 101e6 + 1}, 0},
		{1, []float64{1, 1, 1, 90e6, -1}, 5},
	} {
		r := &report{}
		far := r.addTable("far", column{columnP99, plainRatio})
		near := r.addTable("near", column{columnFull, nanos}, column{columnBurst, nanos}, column{columnOwn, nanos},
			column{columnOther, nanos}, column{columnDeadline, nanos})
		for _, v := range []float64{1, c.p99} {
			far.addRow("").add(v)
		}
		near.addRow("").add(2e6, 0.5e6, 0, 0, 200e6)
		near.addRow("").add(c.with...)
		blockingGoals(r, far, near)
		reached := 0
		for _, g := range r.Goals {
			if g.Reached {
				reached++
			}
		}
		if len(r.Goals) != 6 || reached != c.reached {
			t.Errorf("%+v: %d of %d reached: %+v", c, reached, len(r.Goals), r.Goals)
		}
	}
}

func TestMiddle(t *testing.T) {
	if got := middle([]time.Duration{9, 1, 5}); got != 5 {
		t.Errorf("the median is %v", got)
	}
}
