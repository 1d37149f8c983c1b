package quicbridge

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// begun is the first n bytes of a Request with a payload of size bytes.
func begun(n, size int) []byte {
	b := make([]byte, n)
	b[0], b[2] = 1, byte(framing.Request)
	binary.BigEndian.PutUint32(b[10:], uint32(size))
	return b
}

// reading is how much memory the intake of c counts, and the readers that are
// parked with an incomplete packet.
func reading(c *conn) (held, partial int) {
	c.intake.mu.Lock()
	defer c.intake.mu.Unlock()
	for h := c.intake.partial; h != nil; h = h.next {
		partial++
	}
	return c.intake.held, partial
}

// TestHazard33UnfinishedPackets: the packets that a peer begins and doesn't finish
// are bounded for its whole connection, not for each of its streams. Beyond that
// the connection ends, with a code and a counted reason, in both dialects.
func TestHazard33UnfinishedPackets(t *testing.T) {
	const piece = 270 << 10
	for dialect, protos := range map[string][]string{"millrace": {ALPN}, "msgtrans": nil} {
		t.Run(dialect, func(t *testing.T) {
			var r recorder
			srv := serve(t, engine.Config{Handler: &r}, Config{})
			q := raw(t, srv.addr, nil, protos...)
			sent := 0
			for range 90 {
				var s interface{ Write([]byte) (int, error) }
				var err error
				if protos == nil {
					s, err = q.OpenUniStream()
				} else {
					s, err = q.OpenStream()
				}
				if err == nil {
					_, err = s.Write(begun(piece, 1<<20))
				}
				if err != nil {
					break
				}
				sent += piece
			}
			if reason := r.reason(t); !errors.Is(reason, engine.ErrTooLarge) || !errors.Is(reason, engine.ErrProtocol) {
				t.Errorf("OnClose got %v", reason)
			}
			expectCode(t, q, CodeTooLarge)
			if n := srv.Stats().Closed["too_large"]; n != 1 {
				t.Errorf("counted as %v", srv.Stats().Closed)
			}
			if sent > DefaultReadMemory+DefaultMaxWindow+piece {
				t.Errorf("%d bytes of unfinished packets were taken", sent)
			}
		})
	}
}

// TestConfigReadMemory: with more memory the same packets are no reason to end a
// connection, and all of them can be finished.
func TestConfigReadMemory(t *testing.T) {
	const streams, size = 40, 700_000
	srv := serve(t, engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		_ = s.Reply(m, m.Payload[:1])
	})}, Config{ReadMemory: 64 << 20})
	q := raw(t, srv.addr, nil, ALPN)
	var all []*quic.Stream
	for range streams {
		s := open(t, q)
		send(t, s, begun(framing.PacketHeaderSize+size/2, size))
		all = append(all, s)
	}
	for _, s := range all {
		send(t, s, make([]byte, size-size/2))
		expect(t, s, framing.Response, 0, "\x00")
	}
}

// TestHazard33LargeMessagesWait: whole messages that wait for a slow handler are
// bounded for their connection. At the bound it isn't read, nothing is lost, and no
// session ends.
func TestHazard33LargeMessagesWait(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		const streams, size = 36, 900_000
		gate := make(chan struct{})
		var handled atomic.Int32
		srv := serve(t, engine.Config{Dispatch: d, Cores: 1, Handler: engine.HandlerFunc(func(*engine.Session, *framing.Message) {
			<-gate
			handled.Add(1)
		})}, Config{})
		q := raw(t, srv.addr, nil, ALPN)
		var taken atomic.Int64
		var wg sync.WaitGroup
		wg.Go(func() { // one after the other: few are unfinished at a time
			for i := range streams {
				s, err := q.OpenStreamSync(t.Context())
				for b := packet(t, framing.Message{ID: uint32(i), Payload: make([]byte, size)}); err == nil && len(b) > 0; {
					var n int
					n, err = s.Write(b[:min(len(b), 10_000)])
					taken.Add(int64(n))
					b = b[n:]
				}
				if err != nil {
					t.Errorf("stream %d: %v", i, err)
					return
				}
			}
		})
		settled(&taken)
		// The ring's large messages, and the bytes on their way to quic-go's
		// buffers.
		const beyond = DefaultMaxWindow + 2<<20
		if n := taken.Load(); n > DefaultReadMemory+beyond {
			t.Errorf("%d bytes were taken before the handler", n)
		}
		close(gate)
		eventually(t, "all messages", func() bool { return handled.Load() == streams })
		wg.Wait()
	})
}

// TestSmallPacketsPassLargeOnes: with as many large packets unfinished as a
// connection may have, small ones come through on other streams.
func TestSmallPacketsPassLargeOnes(t *testing.T) {
	c, _, q := tap(t, engine.Config{Handler: echo}, nil)
	in := &c.intake
	large := (in.limit - in.limit/smallShare) / (1<<20 + tailSize)
	for i := range large {
		send(t, open(t, q), begun(600<<10, 1<<20))
		eventually(t, "a large packet to be waited for", func() bool {
			held, partial := reading(c)
			return partial == i+1 && held == (i+1)*(1<<20+tailSize)
		})
	}
	for i := range uint32(50) {
		s := open(t, q)
		send(t, s, request(t, i, name(int(i))))
		expect(t, s, framing.Response, i, name(int(i)))
		_ = s.Close()
	}
}

// TestIntakeKeepsRoomForSmall: an eighth is for buffers of up to 64 KiB alone.
func TestIntakeKeepsRoomForSmall(t *testing.T) {
	full := Config{ReadMemory: minReadMemory}.withDefaults()
	c := &conn{config: &full, limits: &engine.Limits{MaxMessageSize: 1000}}
	c.intake.init(c)
	in := &c.intake
	var large, larger, small holding
	in.resume(&large, 0)
	if err := in.grow(&large, minReadMemory-minReadMemory/smallShare); err != nil {
		t.Fatal(err)
	}
	in.park(&large, large.bytes, 1)
	in.resume(&larger, 2*burstSize)
	if larger.bytes != 0 {
		t.Errorf("a larger buffer got %d bytes", larger.bytes)
	}
	in.resume(&small, burstSize)
	if small.bytes != burstSize {
		t.Errorf("a small one got %d bytes", small.bytes)
	}
	in.park(&small, small.bytes, 1)
	if err := in.grow(&larger, 2*burstSize); err != errUnfinished {
		t.Errorf("a larger one, when nobody will give memory back: %v", err)
	}
}

// TestIntakeReturnsToZero: after any traffic an idle connection counts no memory.
func TestIntakeReturnsToZero(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		c, _, q := tap(t, engine.Config{Dispatch: d, Handler: echo}, nil)
		var wg sync.WaitGroup
		for i := range 8 {
			s := open(t, q)
			wg.Go(func() {
				random := rand.New(rand.NewPCG(1, uint64(i)))
				for id := range uint32(20) {
					b := request(t, id, string(make([]byte, random.IntN(1<<(4+random.IntN(15))))))
					for len(b) > 0 {
						cut := 1 + random.IntN(len(b))
						if _, err := s.Write(b[:cut]); err != nil {
							t.Error(err)
							return
						}
						b = b[cut:]
					}
					if _, err := next(s); err != nil {
						t.Error(err)
						return
					}
				}
				if i%2 == 0 {
					_ = s.Close()
				}
				if i%4 == 1 {
					_, _ = s.Write([]byte{1})
					s.CancelWrite(0)
				}
			})
		}
		wg.Wait()
		eventually(t, "all memory to be given back", func() bool {
			held, partial := reading(c)
			return held == 0 && partial == 0
		})
		c.intake.mu.Lock()
		defer c.intake.mu.Unlock()
		if in := &c.intake; in.busy != 0 || in.waiting != 0 {
			t.Errorf("%d readers are busy, %d wait", in.busy, in.waiting)
		}
	})
}

// TestIntakeWaits: a reader waits for memory as long as another one is busy, gets
// it when that gives it back, and fails when none will.
func TestIntakeWaits(t *testing.T) {
	full := Config{ReadMemory: minReadMemory}.withDefaults()
	newIntake := func() *intake {
		c := &conn{config: &full, limits: &engine.Limits{MaxMessageSize: 1000}}
		c.intake.init(c)
		return &c.intake
	}
	awaitWaiter := func(in *intake) {
		eventually(t, "the reader to wait", func() bool {
			in.mu.Lock()
			defer in.mu.Unlock()
			return in.waiting == 1
		})
	}
	for _, gives := range []bool{true, false} {
		in := newIntake()
		var a, b holding
		in.resume(&a, 0)
		if err := in.grow(&a, 512<<10); err != nil {
			t.Fatal(err)
		}
		in.resume(&b, 0)
		got := make(chan error, 1)
		go func() { got <- in.grow(&b, 512<<10) }()
		awaitWaiter(in)
		if gives {
			in.park(&a, 0, 0)
		} else {
			in.park(&a, 512<<10, 1)
		}
		if err := <-got; gives != (err == nil) || !gives && !errors.Is(err, engine.ErrTooLarge) {
			t.Errorf("memory given back %v: %v", gives, err)
		}
	}
	in := newIntake()
	var a, b holding
	in.resume(&a, 0)
	in.resume(&b, 0)
	_ = in.grow(&a, 800<<10)
	got := make(chan error, 1)
	go func() { got <- in.grow(&b, 800<<10) }()
	awaitWaiter(in)
	in.close()
	if err := <-got; err != nil {
		t.Errorf("the connection has ended: %v", err)
	}
}

// TestPartialTimeout: a packet that is begun must be finished in time, or go on by
// 16 KiB; a few bytes now and then are not enough.
func TestPartialTimeout(t *testing.T) {
	const limit = 400 * time.Millisecond
	drip := func(w interface{ Write([]byte) (int, error) }) (stop func()) {
		end, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for tick := time.NewTicker(limit / 10); ; {
				select {
				case <-end:
					tick.Stop()
					return
				case <-tick.C:
					if _, err := w.Write([]byte{0}); err != nil {
						return
					}
				}
			}
		}()
		return func() { close(end); <-ended }
	}
	for name, begin := range map[string]func(t *testing.T, addr string) (*quic.Conn, func()){
		"one byte": func(t *testing.T, addr string) (*quic.Conn, func()) {
			q := raw(t, addr, nil, ALPN)
			send(t, open(t, q), []byte{1})
			return q, func() {}
		},
		"dripping": func(t *testing.T, addr string) (*quic.Conn, func()) {
			q := raw(t, addr, nil, ALPN)
			s := open(t, q)
			send(t, s, request(t, 1, "whole"))
			send(t, s, begun(100, 1<<20))
			return q, drip(s)
		},
		"dripping msgtrans": func(t *testing.T, addr string) (*quic.Conn, func()) {
			q := raw(t, addr, nil)
			s, err := q.OpenUniStream()
			if err != nil {
				t.Fatal(err)
			}
			send(t, s, begun(100, 1<<20))
			return q, drip(s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := recorder{onMsg: echo}
			srv := serve(t, engine.Config{Handler: &r, PartialTimeout: limit}, Config{})
			start := time.Now()
			q, stop := begin(t, srv.addr)
			err := r.reason(t)
			if !errors.Is(err, engine.ErrPartialTimeout) || !engine.Retryable(err) {
				t.Errorf("OnClose got %v", err)
			}
			if took := time.Since(start); took < limit {
				t.Errorf("ended after %v", took)
			}
			expectCode(t, q, CodeNone)
			stop()
			if n := srv.Stats().Closed["partial_timeout"]; n != 1 {
				t.Errorf("counted as %v", srv.Stats().Closed)
			}
		})
	}
}

// TestPartialTimeoutProgress drives the check itself: 16 KiB more of a packet, and
// time in which this side keeps the connection from going on, begin its time anew;
// less doesn't.
func TestPartialTimeoutProgress(t *testing.T) {
	const limit = time.Hour
	full := Config{}.withDefaults()
	c := &conn{config: &full, limits: &engine.Limits{MaxMessageSize: 1 << 20, PartialTimeout: limit}, begun: time.Now()}
	c.intake.init(c)
	in := &c.intake
	defer in.close()
	pass := func(d time.Duration) { c.begun = c.begun.Add(-d) }
	receive := func(h *holding, n int) {
		in.resume(h, burstSize)
		in.park(h, burstSize, n)
	}
	due := func(want bool, why string) {
		t.Helper()
		if in.overdue() != want {
			t.Errorf("%s: overdue is %v", why, !want)
		}
	}
	var h, other holding
	receive(&h, 10)
	due(false, "just begun")
	pass(limit - time.Second)
	receive(&h, 10+partialProgress-1)
	receive(&other, 1)
	due(false, "before its time")
	pass(2 * time.Second)
	due(true, "too little came")
	receive(&h, 10+partialProgress)
	due(false, "enough came")
	pass(limit - time.Second)
	in.resume(&h, burstSize)
	pass(limit) // it reads, or waits for the handler, for so long
	in.park(&h, burstSize, 10+partialProgress)
	in.resume(&other, 0)
	in.park(&other, 0, 0) // whole
	due(false, "the time that this side took")
	pass(2 * time.Second)
	due(true, "its own time again")
	c.paused.Store(true)
	due(false, "paused")
	c.paused.Store(false)
	pass(limit / 2)
	due(false, "a whole time after the pause")
	c.delivering.Store(1)
	pass(limit)
	due(false, "the handler has stood still since the last check")
	c.delivered.Add(1)
	pass(limit)
	due(true, "the handler goes on")
	h.mark = 0 // as a reader does that has delivered the packet
	receive(&h, 5)
	due(false, "another packet")
	in.resume(&h, 0)
	in.park(&h, 0, 0)
	pass(2 * limit)
	due(false, "nothing is begun")
}

// TestNewPacketNewTime: the packet after a finished one has its own full timeout,
// although the stream always had an incomplete packet.
func TestNewPacketNewTime(t *testing.T) {
	var r recorder
	c, session, q := tap(t, engine.Config{Handler: &r, PartialTimeout: time.Hour}, nil)
	s := open(t, q)
	b := request(t, 1, "four")
	incomplete := func() (since, elapsed time.Duration) {
		eventually(t, "an incomplete packet", func() bool {
			c.intake.mu.Lock()
			defer c.intake.mu.Unlock()
			h := c.intake.partial
			if h != nil {
				since, elapsed = h.since, h.elapsed
			}
			return h != nil
		})
		return since, elapsed
	}
	send(t, s, b[:5])
	first, _ := incomplete()
	send(t, s, append(b[5:len(b):len(b)], b[:5]...))
	eventually(t, "the first packet", func() bool { return r.count() == 1 })
	eventually(t, "the second one", func() bool { since, _ := incomplete(); return since > first })
	if _, elapsed := incomplete(); elapsed != 0 {
		t.Errorf("%v of its time have passed before it began", elapsed)
	}
	if err := session.Err(); err != nil {
		t.Error(err)
	}
}
