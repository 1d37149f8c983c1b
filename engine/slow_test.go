package engine_test

import (
	"context"
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
	e, s, c := slowSession(t, engine.Config{SlowConsumer: engine.SlowConsumerDropNewest, OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
	const n = 2000
	dropped := 0
	for range n {
		if err := s.Send(make([]byte, 10_000)); errors.Is(err, engine.ErrDropped) {
			dropped++
		} else if err != nil {
			t.Fatal(err)
		}
	}
	if dropped == 0 || e.Stats().DroppedMessages != uint64(dropped) {
		t.Fatalf("%d dropped, %d counted", dropped, e.Stats().DroppedMessages)
	}
	_ = c.CloseWrite()
	got := ids(t, c)
	if len(got) != n-dropped || !increasing(got) || got[0] != 1 {
		t.Fatalf("%d of %d arrived, %d dropped", len(got), n, dropped)
	}
}

func TestDropOldest(t *testing.T) {
	e, s, c := slowSession(t, engine.Config{SlowConsumer: engine.SlowConsumerDropOldest, OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
	const n = 2000
	for range n {
		if err := s.Send(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
	}
	dropped := int(e.Stats().DroppedMessages)
	_ = c.CloseWrite()
	got := ids(t, c)
	if dropped == 0 || len(got) != n-dropped || !increasing(got) || got[len(got)-1] != n {
		t.Fatalf("%d of %d arrived, the last is %d, %d dropped", len(got), n, got[len(got)-1], dropped)
	}
}

// TestSendContextWaits: under every policy it waits for the peer, and nothing is
// dropped.
func TestSendContextWaits(t *testing.T) {
	for _, policy := range []engine.SlowConsumerPolicy{engine.SlowConsumerClose, engine.SlowConsumerDropNewest, engine.SlowConsumerDropOldest} {
		e, s, c := slowSession(t, engine.Config{SlowConsumer: policy, OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
		const n = 2000
		var sent atomic.Int64
		done := make(chan error, 1)
		go func() {
			defer s.Close()
			for range n {
				if err := s.SendContext(t.Context(), make([]byte, 10_000)); err != nil {
					done <- err
					return
				}
				sent.Add(1)
			}
			done <- nil
		}()
		// 20 MB do not fit into the outbox and the sockets' buffers: the sender stops.
		for before := int64(-1); before != sent.Load(); time.Sleep(50 * time.Millisecond) {
			before = sent.Load()
		}
		if sent.Load() == n {
			t.Fatal("the sender has not waited")
		}
		if g := ids(t, c); len(g) != n || !increasing(g) {
			t.Fatalf("policy %d: %d of %d arrived", policy, len(g), n)
		}
		if err := <-done; err != nil || e.Stats().DroppedMessages != 0 {
			t.Errorf("policy %d: %v, %d dropped", policy, err, e.Stats().DroppedMessages)
		}
	}
}

// TestSendContextEnds: with the session, and with its context, in which case the
// session continues.
func TestSendContextEnds(t *testing.T) {
	_, s, _ := slowSession(t, engine.Config{OutboxLimit: 1 << 20, OutboxSoftMark: 1 << 20})
	fill := func(ctx context.Context) chan error {
		done := make(chan error, 1)
		go func() {
			for {
				if err := s.SendMessageContext(ctx, &framing.Message{Payload: make([]byte, 10_000)}); err != nil {
					done <- err
					return
				}
			}
		}()
		return done
	}
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	done := fill(ctx)
	cancel(why)
	if err := <-done; err != why {
		t.Errorf("a context that ended: %v", err)
	}
	if err := s.Err(); err != nil {
		t.Errorf("the session has ended: %v", err)
	}
	done = fill(t.Context())
	s.Abort(nil)
	if err := <-done; !errors.Is(err, engine.ErrClosed) {
		t.Errorf("a session that ended: %v", err)
	}
}

// TestOutboxAppendContext: as for sessions, for the streams of a Transport.
func TestOutboxAppendContext(t *testing.T) {
	var out engine.Outbox
	defer out.Discard(engine.ErrClosed)
	out.Init(&engine.Limits{OutboxLimit: 1000, OutboxSoftMark: 500, MaxMessageSize: 900})
	m := &framing.Message{Payload: make([]byte, 800)}
	if err := out.AppendContext(t.Context(), framing.Packet{}, m); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- out.AppendContext(ctx, framing.Packet{}, m) }()
	cancel()
	if err := <-done; err != context.Canceled {
		t.Errorf("a context that ended: %v", err)
	}
	go func() { done <- out.AppendContext(t.Context(), framing.Packet{}, m) }()
	out.Done(len(out.Next()))
	if err := <-done; err != nil {
		t.Errorf("space: %v", err)
	}
	go func() { done <- out.AppendContext(t.Context(), framing.Packet{}, m) }()
	out.Close(engine.ErrClosed)
	if err := <-done; err != engine.ErrClosed {
		t.Errorf("closed: %v", err)
	}
}
