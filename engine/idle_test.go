package engine

import (
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/framing"
)

// TestIdleTimerRestsBehindTheInput: a session whose peer has ended its side, and
// which waits for a Release, has no idle deadline any more that would fire with
// each tick.
func TestIdleTimerRestsBehindTheInput(t *testing.T) {
	held := make(chan *Session, 1)
	e := New(Config{Cores: 1, IdleTimeout: 100 * time.Millisecond, Handler: HandlerFunc(func(s *Session, _ *framing.Message) {
		s.Hold()
		held <- s
	})})
	defer func() { _ = e.Close() }()
	l, err := e.Listen("127.0.0.1:0", Packets())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	b, err := framing.AppendPacket(nil, &framing.Message{Type: framing.Request})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(b); err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).CloseWrite()
	s := <-held
	for deadline := time.Now().Add(10 * time.Second); e.cores[0].timers.Load() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the timer fires for ever")
		}
	}
	if err := s.Err(); err != nil {
		t.Errorf("the session that is held has ended: %v", err)
	}
	s.Release()
}
