package quicbridge

import (
	"bytes"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/quic-go/quic-go"
)

// TestFramesAreShared: the outboxes of many connections refer to the same bytes, without
// an allocation, and count them all.
func TestFramesAreShared(t *testing.T) {
	full := Config{}.withDefaults()
	m := &framing.Message{BizType: 5, Payload: make([]byte, 10_000)}
	want := packet(t, *m)
	f := engine.NewFrame(m)
	var streams []*stream
	for range 3 {
		c := &conn{config: &full, limits: &engine.Limits{MaxMessageSize: 1 << 20, OutboxSoftMark: 1 << 18, OutboxLimit: 1 << 22}}
		c.wake.L = &c.mu
		c.first = c.newStream(nil)
		streams = append(streams, c.first)
	}
	if n := testing.AllocsPerRun(100, func() {
		var first *byte
		for _, st := range streams {
			if err := st.conn.SendFrame(f); err != nil {
				t.Fatal(err)
			}
			b := st.out.Next()
			if first == nil {
				first = unsafe.SliceData(b)
			}
			if unsafe.SliceData(b) != first || !bytes.Equal(b, want) {
				t.Fatal("other bytes")
			}
			if q := st.conn.queued.Load(); q != int64(len(want)) || st.out.Pending() != len(want) {
				t.Fatalf("%d and %d bytes are counted, want %d", q, st.out.Pending(), len(want))
			}
			st.out.Done(len(b))
			st.conn.wrote(len(b))
		}
	}); n > 0 && !testkit.RaceEnabled {
		t.Errorf("%v allocations", n)
	}
}

// TestOwnedPayloadsAreReleased exactly once, in every ending, and not copied.
func TestOwnedPayloadsAreReleased(t *testing.T) { eachDispatch(t, testOwnedPayloadsAreReleased) }

func testOwnedPayloadsAreReleased(t *testing.T, d engine.Dispatch) {
	const size, count = 100_000, 10
	for name, end := range map[string]func(s *engine.Session, q *quic.Conn, st *quic.Stream){
		"read": func(s *engine.Session, _ *quic.Conn, st *quic.Stream) {
			for range count {
				if m, err := next(st); err != nil || !bytes.Equal(m.Payload, bytes.Repeat([]byte("x"), size)) {
					t.Error("other bytes", err)
				}
			}
			s.Close()
		},
		"linger":  func(s *engine.Session, _ *quic.Conn, _ *quic.Stream) { s.Close() },
		"abort":   func(s *engine.Session, _ *quic.Conn, _ *quic.Stream) { s.Abort(nil) },
		"stopped": func(s *engine.Session, _ *quic.Conn, st *quic.Stream) { st.CancelRead(1); s.Close() },
		"gone":    func(_ *engine.Session, q *quic.Conn, _ *quic.Stream) { _ = q.CloseWithError(0, "") },
		"engine":  func(s *engine.Session, _ *quic.Conn, _ *quic.Stream) { _ = s.Engine().Close() },
	} {
		t.Run(name, func(t *testing.T) {
			var released atomic.Int32
			sessions, closed := make(chan *engine.Session, 1), make(chan error, 1)
			srv := serve(t, engine.Config{Dispatch: d, LingerTimeout: 100 * time.Millisecond, Handler: engine.HandlerFuncs{
				Message: func(s *engine.Session, _ *framing.Message) { sessions <- s },
				Close:   func(_ *engine.Session, reason error) { closed <- reason },
			}}, Config{})
			q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 16 << 10, MaxStreamReceiveWindow: 16 << 10}, ALPN)
			st := open(t, q)
			send(t, st, packet(t, framing.Message{Payload: []byte("hello")}))
			s := testkit.Receive(t, sessions, "the session")
			for range count {
				p := bytes.Repeat([]byte("x"), size)
				if err := s.SendOwned(p, func() { clear(p); released.Add(1) }); err != nil {
					t.Fatal(err)
				}
			}
			end(s, q, st)
			testkit.Receive(t, closed, "OnClose")
			eventually(t, "release", func() bool { return released.Load() >= count })
			if n := released.Load(); n != count {
				t.Errorf("%d releases of %d payloads", n, count)
			}
		})
	}
}

// TestCompatCopiesOwned: a msgtrans peer gets each packet on a stream of its own.
func TestCompatCopiesOwned(t *testing.T) {
	var released atomic.Int32
	srv := serve(t, engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for range 3 {
			p := bytes.Repeat([]byte("x"), 50_000)
			if err := s.SendOwned(p, func() { clear(p); released.Add(1) }); err != nil {
				t.Error(err)
			}
			if err := s.SendFrame(engine.NewFrame(&framing.Message{Payload: make([]byte, 50_000)})); err != nil {
				t.Error(err)
			}
		}
	})}, Config{})
	q := raw(t, srv.addr, nil)
	sendUni(t, q, request(t, 1, ""))
	for i := range 6 {
		if m := nextUni(t, q); len(m.Payload) != 50_000 || (m.Payload[0] == 'x') != (i%2 == 0) {
			t.Fatalf("message %d of %d bytes", i, len(m.Payload))
		}
	}
	eventually(t, "release", func() bool { return released.Load() == 3 })
}
