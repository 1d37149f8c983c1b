package engine_test

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// slowSession opens a session of an engine with cfg whose peer doesn't read.
func slowSession(t *testing.T, cfg engine.Config) (*engine.Engine, *engine.Session, *net.TCPConn) {
	j := newJournal(reply)
	cfg.Handler, cfg.LingerTimeout = j, 10*time.Second
	e, addr := serve(t, cfg)
	c := dial(t, addr)
	return e, j.session(t), c
}

// ids reads packets from r until the end of the stream, and returns their IDs.
func ids(t *testing.T, c *net.TCPConn) []uint32 {
	b, err := io.ReadAll(c)
	if err != nil {
		t.Error(err)
	}
	var got []uint32
	for len(b) > 0 {
		var m framing.Message
		n, err := framing.Packet{}.Decode(b, 0, 1<<20, &m)
		if err != nil || n == 0 {
			t.Error(n, err)
			break
		}
		got = append(got, m.ID)
		b = b[n:]
	}
	return got
}

func increasing(ids []uint32) bool {
	for i := 1; i < len(ids); i++ {
		if ids[i] <= ids[i-1] {
			return false
		}
	}
	return true
}

func TestDropNewest(t *testing.T) {
	e, s, c := slowSession(t, engine.Config{SlowConsumer: engine.DropNewest, OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
	const n = 2000
	dropped := 0
	for range n {
		if err := s.Send(make([]byte, 10_000)); errors.Is(err, engine.ErrDropped) {
			dropped++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if dropped == 0 || e.Stats().Dropped != uint64(dropped) {
		t.Fatalf("%d dropped, %d counted", dropped, e.Stats().Dropped)
	}
	_ = c.CloseWrite()
	got := ids(t, c)
	if len(got) != n-dropped || !increasing(got) || got[0] != 1 {
		t.Fatalf("%d of %d arrived, %d dropped", len(got), n, dropped)
	}
}

func TestDropOldest(t *testing.T) {
	e, s, c := slowSession(t, engine.Config{SlowConsumer: engine.DropOldest, OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
	const n = 2000
	for range n {
		if err := s.Send(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	dropped := int(e.Stats().Dropped)
	_ = c.CloseWrite()
	got := ids(t, c)
	if dropped == 0 || len(got) != n-dropped || !increasing(got) || got[len(got)-1] != n {
		t.Fatalf("%d of %d arrived, the last is %d, %d dropped", len(got), n, got[len(got)-1], dropped)
	}
}

func TestBlockMakesTheSenderWait(t *testing.T) {
	_, s, c := slowSession(t, engine.Config{SlowConsumer: engine.Block, OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
	const n = 2000
	var sent atomic.Int64
	done := make(chan error, 1)
	go func() {
		for range n {
			if err := s.Send(make([]byte, 10_000)); err != nil {
				done <- err
				return
			}
			sent.Add(1)
		}
		done <- nil
	}()
	time.Sleep(100 * time.Millisecond)
	if sent.Load() == n {
		t.Fatal("nobody waited")
	}
	got := make(chan []uint32)
	go func() {
		if err := <-done; err != nil {
			t.Error(err)
		}
		s.Close()
	}()
	go func() { got <- ids(t, c) }()
	if g := <-got; len(g) != n || !increasing(g) {
		t.Fatalf("%d of %d arrived", len(g), n)
	}
}

func TestBlockEndsWithTheSession(t *testing.T) {
	_, s, _ := slowSession(t, engine.Config{SlowConsumer: engine.Block, OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
	done := make(chan error)
	go func() {
		for {
			if err := s.Send(make([]byte, 10_000)); err != nil {
				done <- err
				return
			}
		}
	}()
	time.Sleep(50 * time.Millisecond)
	s.Abort(nil)
	if err := <-done; !errors.Is(err, engine.ErrClosed) {
		t.Fatal(err)
	}
}

func TestBlockNeverBlocksACallback(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		got := make(chan error, 1)
		h := engine.OnMessage(func(s *engine.Session, _ *framing.Message) {
			for {
				if err := s.Send(make([]byte, 10_000)); err != nil {
					got <- err
					return
				}
			}
		})
		_, addr := serve(t, engine.Config{Handler: h, Dispatch: d, SlowConsumer: engine.Block,
			OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
		_, _ = dial(t, addr).Write(ping)
		if err := <-got; !errors.Is(err, engine.ErrWouldBlock) {
			t.Fatal(err)
		}
	})
}
