package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// numbered returns n packets of size payload bytes whose IDs count up from 0.
func numbered(n, size int) []byte {
	var b []byte
	payload := bytes.Repeat([]byte("p"), size)
	for i := range n {
		b, _ = framing.Packet{}.Append(b, &framing.Message{ID: uint32(i), Payload: payload})
	}
	return b
}

// inOrder is a callback that checks that IDs count up, and counts.
func inOrder(t testing.TB, count *atomic.Int64) func(*engine.Session, *framing.Message) {
	return func(_ *engine.Session, m *framing.Message) {
		if n := count.Add(1) - 1; int64(m.ID) != n {
			t.Errorf("message %d arrived as number %d", m.ID, n)
		}
	}
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	testkit.Eventually(t, cond, what)
}

// within fails the test when f takes longer than d. f goes on in its goroutine.
func within(t testing.TB, d time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(d):
		t.Fatal("still not done after ", d, ": ", what)
	}
}

// occupied returns a handler whose first message, from a session of its own, waits for
// gate. The other messages are h's.
func occupied(gate chan struct{}, h engine.HandlerFunc) engine.HandlerFunc {
	var entered atomic.Bool
	return func(s *engine.Session, m *framing.Message) {
		if entered.CompareAndSwap(false, true) {
			<-gate
			return
		}
		h(s, m)
	}
}

// occupy sends the first message of an occupied handler, so that the worker is busy and
// the messages of other sessions wait in the ring.
func occupy(t *testing.T, e *engine.Engine, addr string) {
	t.Helper()
	_, _ = dial(t, addr).Write(ping)
	waitFor(t, "a callback", func() bool { return e.Stats().BytesIn > 0 })
}

func TestHazard10SlowHandlerStopsTheReadingAndLosesNothing(t *testing.T) {
	gate := make(chan struct{})
	var count atomic.Int64
	h := occupied(gate, inOrder(t, &count))
	e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10, MaxMessageSize: 64 << 10})
	occupy(t, e, addr)
	c := dial(t, addr)
	const n = 3000
	sent := make(chan error, 1)
	go func() { _, err := c.Write(numbered(n, 10_000)); sent <- err }()
	waitFor(t, "a stall", func() bool { return e.Stats().Cores[0].Stalls > 0 })
	time.Sleep(50 * time.Millisecond)
	// As much as the ring has by value and as much by reference, and one read that didn't fit.
	if in := e.Stats().BytesIn; in > 2*(64<<10)+2*engine.DefaultReadBufferSize {
		t.Errorf("read %d bytes for a handler that takes none", in)
	}
	select {
	case <-sent:
		t.Fatal("the sender felt nothing")
	default:
	}
	close(gate)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	waitFor(t, "all messages", func() bool { return count.Load() == n })
}

func TestManySessionsShareAFullRing(t *testing.T) {
	gate := make(chan struct{})
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		<-gate
		reply(s, m)
	})
	e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10, LingerTimeout: 10 * time.Second})
	const sessions, each = 50, 40
	want := numbered(each, 1000)
	done := make(chan error, sessions)
	for range sessions {
		c := dial(t, addr)
		go func() {
			go func() { _, _ = c.Write(want); _ = c.CloseWrite() }()
			got, err := io.ReadAll(c)
			if err == nil && !bytes.Equal(got, want) {
				err = fmt.Errorf("%d other bytes came back instead of %d", len(got), len(want))
			}
			done <- err
		}()
	}
	waitFor(t, "a stall", func() bool { return e.Stats().Cores[0].Stalls > 0 })
	close(gate)
	for range sessions {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func TestHazard10PeerThatDoesNotReadIsNotReadFromEither(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		e, addr := serve(t, engine.Config{Handler: echo, Dispatch: d, Cores: 1, OutboxSoftMark: 64 << 10})
		c := dial(t, addr)
		const n = 5000
		sent := make(chan error, 1)
		stream := numbered(n, 10_000)
		go func() { _, err := c.Write(stream); sent <- err }()
		last := uint64(1)
		waitFor(t, "reading to stop", func() bool {
			now := e.Stats().BytesIn
			stopped := now == last && now > 0
			last = now
			time.Sleep(50 * time.Millisecond)
			return stopped
		})
		if last >= uint64(len(stream)) {
			t.Fatal("everything was read though nothing was collected")
		}
		got, err := io.ReadAll(io.LimitReader(c, int64(len(stream))))
		if err != nil || !bytes.Equal(got, stream) {
			t.Fatalf("%d bytes of %d, %v", len(got), len(stream), err)
		}
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
	})
}

func TestHazard10SlowConsumerIsClosed(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(nil)
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, OutboxLimit: 2 << 20})
		slow, quick := dial(t, addr), dial(t, addr)
		s, q := j.session(t), j.session(t)
		for s.RemoteAddr().String() != slow.LocalAddr().String() {
			s, q = q, s
		}
		var err error
		for range 10_000 {
			if err = s.Send(make([]byte, 10_000)); err != nil {
				break
			}
		}
		if !errors.Is(err, engine.ErrSlowConsumer) {
			t.Fatal(err)
		}
		if err := j.reason(t); !errors.Is(err, engine.ErrSlowConsumer) {
			t.Fatal(err)
		}
		if n := e.Stats().Closed["slow_consumer"]; n != 1 {
			t.Fatal(n, " counted")
		}
		_ = q.Send([]byte("hi"))
		expect(t, quick, packet(&framing.Message{ID: 1, Payload: []byte("hi")}))
	})
}

func TestPauseStopsReadingAndResumeLosesNothing(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		var count atomic.Int64
		check := inOrder(t, &count)
		session := make(chan *engine.Session, 1)
		h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
			if m.ID == 0 {
				s.Pause()
				session <- s
			}
			check(s, m)
		})
		e, addr := serve(t, engine.Config{Handler: h, Dispatch: d, Cores: 1, RingSize: 64 << 10})
		c := dial(t, addr)
		const n = 4000
		go func() { _, _ = c.Write(numbered(n, 1000)) }()
		s := <-session
		time.Sleep(50 * time.Millisecond)
		before := e.Stats().BytesIn
		time.Sleep(50 * time.Millisecond)
		if now := e.Stats().BytesIn; now != before || count.Load() == n {
			t.Fatalf("still reading: %d, then %d bytes", before, now)
		}
		s.Resume()
		waitFor(t, "all messages", func() bool { return count.Load() == n })
	})
}

func TestLargeMessages(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d})
		c := dial(t, addr)
		var stream []byte
		for i, size := range []int{1 << 20, 0, 100_000, 1, 1 << 20, 40_000, 32 << 10, 70_000, 1<<20 - 1, 3} {
			p := bytes.Repeat([]byte{byte('a' + i)}, size)
			stream = append(stream, packet(&framing.Message{ID: uint32(i), Payload: p, Ext: []byte{byte(i)}[:i%2]})...)
		}
		go func() { _, _ = c.Write(stream) }()
		got := make([]byte, 0, len(stream))
		// The reply carries no extension header.
		want := []byte{}
		for b := stream; len(b) > 0; {
			var m framing.Message
			n, _ := framing.Packet{}.Decode(b, 0, 1<<21, &m)
			m.Ext = nil
			want = append(want, packet(&m)...)
			b = b[n:]
		}
		got = got[:len(want)]
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Fatal("other bytes came back: ", err)
		}
	})
}

func TestHazard04LargeMessageInSmallPieces(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d})
		c := dial(t, addr)
		want := packet(&framing.Message{Payload: bytes.Repeat([]byte("x"), 200_000)})
		go func() {
			for b := want; len(b) > 0; b = b[min(97, len(b)):] {
				_, _ = c.Write(b[:min(97, len(b))])
			}
		}()
		expect(t, c, want)
	})
}

func TestHazard05LyingLengthAllocatesNothing(t *testing.T) {
	for name, header := range map[string]string{
		"huge":         "01000000000000010000ffffffff0000",
		"negative":     "01000000000000010000800000000000",
		"just too big": "01000000000000010000001000010000",
		"ext on top":   "01000000000000010001001000000000",
	} {
		t.Run(name, func(t *testing.T) {
			j := newJournal(reply)
			e, addr := serve(t, engine.Config{Handler: j})
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			c := dial(t, addr)
			_, _ = c.Write(unhex(header))
			if err := j.reason(t); !errors.Is(err, engine.ErrTooLarge) || !errors.Is(err, engine.ErrProtocol) {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 512<<10 {
				t.Errorf("allocated %d bytes", grown)
			}
			if e.Stats().Closed["too_large"] != 1 {
				t.Error("not counted")
			}
		})
	}
}

func TestMaxMessageSizeBothWays(t *testing.T) {
	j := newJournal(reply)
	_, addr := serve(t, engine.Config{Handler: j, MaxMessageSize: 100})
	c := dial(t, addr)
	_, _ = c.Write(packet(&framing.Message{Payload: make([]byte, 100)}))
	expect(t, c, packet(&framing.Message{Payload: make([]byte, 100)}))
	s := j.session(t)
	if err := s.Send(make([]byte, 101)); !errors.Is(err, engine.ErrTooLarge) {
		t.Fatal(err)
	}
	_, _ = c.Write(packet(&framing.Message{Payload: make([]byte, 101)}))
	if err := j.reason(t); !errors.Is(err, engine.ErrTooLarge) {
		t.Fatal(err)
	}
}

// TestEmptyEncodingIsNoWork sends a message that its framing encodes as nothing.
func TestEmptyEncodingIsNoWork(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			if string(m.Payload) == "bye" {
				_ = s.Reply(m, nil)
				s.Close()
				return
			}
			_ = s.Reply(m, m.Payload)
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1}, engine.Framed(framing.Raw{}))
		c := dial(t, addr)
		s := j.session(t)
		within(t, 5*time.Second, "Send of nothing", func() { _ = s.Send(nil) })
		_, _ = c.Write([]byte("hi"))
		expect(t, c, []byte("hi"))
		_, _ = c.Write([]byte("bye"))
		if b, err := io.ReadAll(c); err != nil || len(b) > 0 {
			t.Fatalf("%q, %v", b, err)
		}
		_ = c.Close()
		if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
			t.Fatal(err)
		}
	})
}

// TestOnOpenComesFirstWithAFullRing opens a socket's session while the ring has no space
// for its OnOpen. Space becomes free when its messages arrive.
func TestOnOpenComesFirstWithAFullRing(t *testing.T) {
	gate := make(chan struct{})
	var once sync.Once
	opens := sync.Map{}
	var early atomic.Int32
	f, b := &fake{}, &slowAccept{in: make(chan struct{}), out: make(chan struct{})}
	h := engine.HandlerFuncs{
		Open: func(s *engine.Session) { opens.Store(s, true) },
		Message: func(s *engine.Session, _ *framing.Message) {
			if s.Transport() == "fake" {
				<-gate
				return
			}
			if _, ok := opens.Load(s); !ok {
				early.Add(1)
			}
		},
	}
	defer once.Do(func() { close(gate) })
	e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10}, engine.Packets())
	if _, err := e.Listen("127.0.0.1:1", f); err != nil {
		t.Fatal(err)
	}
	bl, err := e.Listen("127.0.0.1:0", b)
	if err != nil {
		t.Fatal(err)
	}
	busy := dial(t, addr)
	var busySession *engine.Session
	waitFor(t, "a session", func() bool {
		for s := range e.Sessions() {
			busySession = s
		}
		return busySession != nil
	})
	_ = busy
	l := f.open(t)
	l.fill()
	time.Sleep(10 * time.Millisecond)
	l.fill() // the worker has taken the first batch in hand
	var conns []*net.TCPConn
	for range 8 {
		conns = append(conns, dial(t, addr))
	}
	waitFor(t, "a stall", func() bool { return e.Stats().Cores[0].Stalls > 0 })
	time.Sleep(20 * time.Millisecond)
	dial(t, bl.Addr().String())
	<-b.in // the loop stands in Accept
	for range 1100 {
		busySession.Pause() // so many tasks that sockets have their turn in between
		busySession.Resume()
	}
	once.Do(func() { close(gate) })
	waitFor(t, "an empty ring", func() bool { return e.Stats().Cores[0].RingDepth == 0 })
	for _, c := range conns {
		_, _ = c.Write(bytes.Repeat(ping, 3))
	}
	time.Sleep(20 * time.Millisecond)
	close(b.out)
	waitFor(t, "the messages", func() bool { return e.Stats().MessagesIn >= 24 && e.Stats().Cores[0].RingDepth == 0 })
	time.Sleep(20 * time.Millisecond)
	if n := early.Load(); n > 0 {
		t.Errorf("%d messages before OnOpen", n)
	}
}

// slowAccept is a protocol whose Accept waits.
type slowAccept struct{ in, out chan struct{} }

func (*slowAccept) Name() string              { return "slow" }
func (*slowAccept) Match([]byte) engine.Match { return engine.MatchYes }
func (b *slowAccept) Accept(ctl *engine.Control) engine.Codec {
	close(b.in)
	<-b.out
	return engine.Packets().Accept(ctl)
}
func (*slowAccept) Connect(context.Context, net.Conn, string, engine.Limits) (engine.Codec, []byte, error) {
	return nil, nil, os.ErrInvalid
}

// TestFullSocketGoesOn writes in bursts that fill the socket to a peer in another process
// that reads at once, while other goroutines hold the session's lock again and again. The
// event that reports space may come between a write that found the socket full and the
// writer's note of that; it must not be lost.
func TestFullSocketGoesOn(t *testing.T) {
	j := newJournal(nil)
	e, addr := serve(t, engine.Config{Handler: j, Cores: 1, WriteTimeout: -1,
		Socket: engine.SocketOptions{WriteBuffer: 4 << 10}})
	c := dial(t, addr)
	s := j.session(t)
	f, err := c.File()
	if err != nil {
		t.Fatal(err)
	}
	cat := exec.Command("cat")
	cat.Stdin = f
	if err := cat.Start(); err != nil {
		t.Skip(err)
	}
	_ = f.Close()
	_ = c.Close()
	stop := make(chan struct{})
	var others sync.WaitGroup
	for range 3 {
		others.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_ = s.Err()
				}
			}
		})
	}
	const size = 40 << 10
	burst, total := make([]byte, size), uint64(0)
	for n, end := 0, time.Now().Add(8*time.Second); time.Now().Before(end) && !t.Failed(); n++ {
		if err := s.Send(burst); err != nil {
			t.Error(err)
			break
		}
		total += size + framing.PacketHeaderSize
		since := time.Now()
		for e.Stats().BytesOut < total && time.Since(since) < 3*time.Second {
			runtime.Gosched()
		}
		if out := e.Stats().BytesOut; out < total {
			t.Errorf("burst %d: %d bytes wait at a peer that reads", n, total-out)
			break
		}
	}
	close(stop)
	others.Wait()
	s.Abort(nil)
	_ = cat.Wait()
}
