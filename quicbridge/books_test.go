package quicbridge

import (
	"sync"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// TestCancelledAnswersLeaveTheBooks: replies that a peer has cancelled are not
// counted, even if it continues to send on the stream.
func TestCancelledAnswersLeaveTheBooks(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		const size = 20_000
		c, _, q := tap(t, engine.Config{Dispatch: d, Cores: 1, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
			for range m.ID {
				_ = s.SendMessage(&framing.Message{Stream: m.Stream, Payload: make([]byte, size)})
			}
			_ = s.Reply(m, nil)
		})}, &quic.Config{InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10})
		stopped := open(t, q)
		send(t, stopped, request(t, 20, "much"))
		st := streamOf(t, c, uint64(stopped.StreamID())+1)
		eventually(t, "the answers to wait", func() bool { return st.out.Pending() > 10*size })
		stopped.CancelRead(0)
		eventually(t, "the stream to be given up", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return st.stopped
		})
		if n := st.out.Pending(); n != 0 {
			t.Errorf("the cancelled stream still holds %d bytes", n)
		}
		if n := c.queued.Load(); n != 0 {
			t.Errorf("the connection still counts %d bytes", n)
		}
		send(t, stopped, request(t, 0, "one more")) // it is read, and its answer is unwanted
		other := open(t, q)
		send(t, other, request(t, 0, "little"))
		expect(t, other, framing.Response, 0, "")
	})
}

// TestStoppedStreamOwesNothing: the Requests of a stream whose answers are unwanted
// don't hold up its reader while other streams are stuck.
func TestStoppedStreamOwesNothing(t *testing.T) {
	const limit = 256 << 10
	var r recorder
	r.onMsg = func(s *engine.Session, m *framing.Message) {
		if m.ID == 1 {
			_ = s.Reply(m, make([]byte, limit/2)) // more than the share that holds readers
		}
	}
	c, _, q := tap(t, engine.Config{Handler: &r, OutboxSoftMark: limit, OutboxLimit: limit, MaxMessageSize: limit / 2},
		&quic.Config{InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10})
	stopped := open(t, q)
	send(t, stopped, request(t, 1, "big")) // answered, and the answer unwanted
	st := streamOf(t, c, uint64(stopped.StreamID())+1)
	eventually(t, "the answer to wait", func() bool { return st.out.Pending() > limit/4 })
	stopped.CancelRead(0)
	eventually(t, "the stream to be given up", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return st.stopped
	})
	send(t, stopped, request(t, 2, "never answered"))
	eventually(t, "the second Request", func() bool { return r.count() == 2 })
	stuck := open(t, q)
	send(t, stuck, request(t, 1, "big"))
	eventually(t, "another stream to be stuck", func() bool { return c.queued.Load() > limit/4 })
	for id := range uint32(5) {
		send(t, stopped, packet(t, framing.Message{ID: 10 + id}))
		eventually(t, "what comes on the stopped stream", func() bool { return r.count() == 4+int(id) })
	}
}

// TestRecountAfterDropsOnly: readers that wait for the connection's share look at
// the sum, not at all streams; an outbox that drops messages makes it right again.
func TestRecountAfterDropsOnly(t *testing.T) {
	const limit = 64 << 10
	for _, policy := range []engine.SlowConsumerPolicy{engine.SlowConsumerClose, engine.SlowConsumerDropNewest, engine.SlowConsumerDropOldest} {
		full := Config{}.withDefaults()
		c := &conn{config: &full, limits: &engine.Limits{MaxMessageSize: 1 << 10, OutboxSoftMark: limit, OutboxLimit: limit, SlowConsumer: policy}}
		c.wake.L = &c.mu
		st := c.newStream(nil)
		st.writing = true // there is no stream to write to
		c.first = st
		count := func() int64 {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.recount()
		}
		m := &framing.Message{Payload: make([]byte, 1<<10)}
		for range limit / (2 << 10) {
			if err := c.Send(m); err != nil {
				t.Fatal(err)
			}
		}
		const mark = 1 // only a count of all streams would correct it
		if c.queued.Add(mark); count() != int64(st.out.Pending())+mark {
			t.Errorf("policy %d: all streams were looked at without need", policy)
		}
		c.queued.Add(-mark)
		for range limit >> 10 { // until something is dropped
			_ = c.Send(m)
		}
		if n := count(); n != int64(st.out.Pending()) || n > limit {
			t.Errorf("policy %d: %d bytes are counted, %d are queued", policy, n, st.out.Pending())
		}
		st.drop()
	}
}

// TestRepliesKeepBehindWhatIsQueued: replies that a reader collects are written
// before its stream's outbox is. So it collects none while something is queued
// there, which others may have sent while the reader waited for its turn.
func TestRepliesKeepBehindWhatIsQueued(t *testing.T) {
	var c *conn
	tapped := make(chan struct{})
	var once sync.Once
	handles := make(chan uint64, 1)
	started := make(chan struct{})
	handler := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		switch string(m.Payload) {
		case "hello":
			handles <- m.Stream
			_ = s.Reply(m, m.Payload)
		case "push":
			once.Do(func() { close(started) })
			<-tapped
			first := <-handles
			st := streamOf(t, c, first)
			eventually(t, "the other stream's reader to wait for its turn", func() bool {
				c.mu.Lock()
				defer c.mu.Unlock()
				return st.writing
			})
			_ = s.SendMessage(&framing.Message{Stream: first, ID: 7, Payload: []byte("pushed")})
		default:
			_ = s.Reply(m, m.Payload)
		}
	})
	c, _, q := tap(t, engine.Config{Dispatch: engine.Inline, Cores: 1, Handler: handler}, nil)
	a, b := open(t, q), open(t, q)
	send(t, a, request(t, 1, "hello"))
	expect(t, a, framing.Response, 1, "hello")
	st := streamOf(t, c, uint64(a.StreamID())+1)
	eventually(t, "the first reply's writer to be done", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return !st.writing
	})
	send(t, b, request(t, 2, "push"))
	<-started
	send(t, a, request(t, 3, "asked"))
	close(tapped)
	expect(t, a, framing.OneWay, 7, "pushed")
	expect(t, a, framing.Response, 3, "asked")
}

// TestReaderHandsOver: a reader that writes the replies to its own stream leaves
// them to a writer when the peer doesn't take them, and reads on: a peer that
// writes all its Requests first gets all its answers. In pieces that are collected
// and in such that lie in the outbox.
func TestReaderHandsOver(t *testing.T) {
	for _, size := range []int{4_000, 3 * gatherBelow} {
		const all = 400_000
		srv := serve(t, engine.Config{Dispatch: engine.Inline, Handler: echo, WriteTimeout: -1,
			OutboxSoftMark: 4 * all, OutboxLimit: 32 * all}, Config{InitialWindow: 32 << 10, MaxWindow: 32 << 10})
		s := open(t, raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10}, ALPN))
		payload := string(make([]byte, size))
		n := uint32(all / size)
		for id := range n {
			send(t, s, request(t, id, payload))
		}
		for id := range n {
			expect(t, s, framing.Response, id, payload)
		}
	}
}
