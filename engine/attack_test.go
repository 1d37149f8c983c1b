package engine_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

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

// TestLargeMessagesThatWaitKeepTheirOrder fills a core's table of large messages,
// so that one waits outside, and sends more.
func TestLargeMessagesThatWaitKeepTheirOrder(t *testing.T) {
	gate := make(chan struct{})
	var ids []uint32
	done := make(chan struct{})
	const n = 8
	h := engine.OnMessage(func(_ *engine.Session, m *framing.Message) {
		<-gate
		if ids = append(ids, m.ID); m.ID == n-1 {
			close(done)
		}
	})
	e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10, MaxMessageSize: 64 << 10})
	c := dial(t, addr)
	for i := range n {
		size := 60_000
		if i%2 == 1 {
			size = 10
		}
		_, _ = c.Write(packet(&framing.Message{ID: uint32(i), Payload: make([]byte, size)}))
		time.Sleep(5 * time.Millisecond) // each in a read of its own, if it is read
	}
	if stalls := e.Stats().Cores[0].Stalls; stalls > 100 {
		t.Errorf("stalled %d times while nothing moved: the loop doesn't sleep", stalls)
	}
	close(gate)
	select {
	case <-done:
	case <-time.After(5 * time.Second):
	}
	_ = e.Close()
	if len(ids) != n {
		t.Fatalf("messages %v arrived", ids)
	}
	for i, id := range ids {
		if int(id) != i {
			t.Fatalf("messages arrived as %v", ids)
		}
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

// TestHazard14LateCallsWriteToNobody calls what wakes a loop when the loop is
// gone and its descriptors are somebody else's.
func TestHazard14LateCallsWriteToNobody(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(nil)
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1})
		dial(t, addr)
		s := j.session(t)
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		var strangers [][2]int
		for range 32 { // take the numbers that became free
			p, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, fd := range p {
				if err := syscall.SetNonblock(fd, true); err != nil {
					t.Fatal(err)
				}
			}
			strangers = append(strangers, p)
		}
		s.Pause()
		s.Resume()
		s.Pause()
		s.Resume()
		s.Close()
		s.Hold()
		s.Release()
		_ = s.Send([]byte("late"))
		for _, p := range strangers {
			for _, fd := range p {
				var b [64]byte
				if n, err := syscall.Read(fd, b[:]); n > 0 || err != syscall.EAGAIN {
					t.Errorf("descriptor %d got %x, %v", fd, b[:max(n, 0)], err)
				}
			}
		}
		for _, p := range strangers {
			_ = syscall.Close(p[0])
			_ = syscall.Close(p[1])
		}
	})
}

// TestNoMessageBehindClose closes a session in OnOpen, when its first messages
// have come already.
func TestNoMessageBehindClose(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		var messages atomic.Int32
		j := newJournal(func(*engine.Session, *framing.Message) { messages.Add(1) })
		j.Open = func(s *engine.Session) { s.Close() }
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1}, hello{engine.Packets()}, engine.Packets())
		c := dial(t, addr)
		_, _ = c.Write(bytes.Repeat(ping, 3))
		if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
			t.Fatal(err)
		}
		if n := messages.Load(); n > 0 {
			t.Errorf("%d messages behind Close", n)
		}
	})
}

// TestNoMessageBehindCloseOfAnotherSession closes a session from a callback of
// another one of its core, while its messages wait in the socket.
func TestNoMessageBehindCloseOfAnotherSession(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		victim, entered, sent := make(chan *engine.Session, 1), make(chan struct{}), make(chan struct{})
		var late atomic.Int32
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			switch string(m.Payload) {
			case "kill":
				close(entered)
				<-sent
				(<-victim).Close()
			default:
				late.Add(1)
			}
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1})
		a := dial(t, addr)
		j.session(t)
		b := dial(t, addr)
		victim <- j.session(t)
		_, _ = a.Write(packet(&framing.Message{Payload: []byte("kill")}))
		<-entered
		_, _ = b.Write(ping)
		time.Sleep(50 * time.Millisecond)
		close(sent)
		if err := j.reason(t); !errors.Is(err, engine.ErrClosed) {
			t.Fatal(err)
		}
		if n := late.Load(); n > 0 {
			t.Errorf("%d messages behind Close", n)
		}
	})
}

// TestHazard16ShutdownHandlesWhatWasRead shuts down while a session has messages
// in memory that had no room in the ring.
func TestHazard16ShutdownHandlesWhatWasRead(t *testing.T) {
	gate := make(chan struct{})
	var handled atomic.Int64
	h := engine.OnMessage(func(_ *engine.Session, m *framing.Message) {
		<-gate
		handled.Add(1)
	})
	e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10})
	c := dial(t, addr)
	const size = 1000
	go func() { _, _ = c.Write(numbered(1000, size)) }()
	waitFor(t, "a stall", func() bool { return e.Stats().Cores[0].Stalls > 0 })
	time.Sleep(20 * time.Millisecond)
	read := int64(e.Stats().BytesIn / (framing.PacketHeaderSize + size))
	time.AfterFunc(50*time.Millisecond, func() { close(gate) })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := e.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if n := handled.Load(); n < read {
		t.Errorf("%d of %d messages that were read were handled", n, read)
	}
}

// fake is a transport whose connections are made by the test.
type fake struct {
	host   *engine.Host
	closed []func() // what Endpoint.Close waits for
}

func (*fake) Name() string { return "fake" }
func (f *fake) Listen(h *engine.Host, addr string) (engine.Endpoint, error) {
	f.host = h
	a, err := net.ResolveUDPAddr("udp", addr)
	return &fakeEndpoint{f, a}, err
}
func (f *fake) Dial(context.Context, *engine.Host, string) (*engine.Session, error) {
	return nil, errors.ErrUnsupported
}

type fakeEndpoint struct {
	fake *fake
	addr net.Addr
}

func (e *fakeEndpoint) Addr() net.Addr { return e.addr }
func (*fakeEndpoint) StopAccepting()   {}
func (e *fakeEndpoint) Close() error {
	for _, f := range e.fake.closed {
		f()
	}
	return nil
}

// fakeLink is a connection of fake: closing it ends the session at once.
type fakeLink struct {
	opened  chan struct{} // session is set
	session *engine.Session
	once    sync.Once
	paused  atomic.Bool
	flushes atomic.Int32
	onPause func(bool)
	ended   chan struct{}
}

func (l *fakeLink) Send(*framing.Message) error { return nil }
func (l *fakeLink) Flush()                      { l.flushes.Add(1) }
func (l *fakeLink) PauseReading(p bool) {
	if l.onPause != nil {
		l.onPause(p)
	}
	l.paused.Store(p)
}
func (l *fakeLink) Close(reason error, _ bool) {
	l.once.Do(func() {
		go func() {
			<-l.opened
			l.session.Ended(reason)
			close(l.ended)
		}()
	})
}

func (f *fake) open(t testing.TB) *fakeLink {
	t.Helper()
	l := &fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}
	s, err := f.host.Open(l, engine.OpenInfo{Remote: netip.MustParseAddrPort("127.0.0.1:9")})
	if err != nil {
		t.Fatal(err)
	}
	l.session = s
	close(l.opened)
	return l
}

// fill puts messages into the ring of l's core until there is no room for one.
func (l *fakeLink) fill() (n int) {
	for l.session.TryDeliver(&framing.Message{}) == nil {
		n++
	}
	return n
}

// TestCloseOfAnEngineThatNeverStarted: a transport may have filled a ring that
// nobody consumes.
func TestCloseOfAnEngineThatNeverStarted(t *testing.T) {
	f := &fake{}
	e := engine.New(engine.Config{Handler: echo, Cores: 1, RingSize: 64 << 10})
	if _, err := e.Listen("127.0.0.1:1", f); err != nil {
		t.Fatal(err)
	}
	l := f.open(t)
	delivered := make(chan struct{})
	f.closed = append(f.closed, func() { <-delivered }) // as an endpoint waits for its goroutines
	go func() {
		defer close(delivered)
		for l.session.Deliver(&framing.Message{Payload: make([]byte, 1000)}) == nil {
		}
	}()
	time.Sleep(50 * time.Millisecond)
	within(t, 5*time.Second, "Close", func() { _ = e.Close() })
}

// TestDeliverEndsWithTheSession: whoever waits for room in the ring hears of the
// session's end and of the engine's. In Inline dispatch a link's messages don't
// travel through it.
func TestDeliverEndsWithTheSession(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "large": 60_000} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			h := engine.OnMessage(func(*engine.Session, *framing.Message) { <-gate })
			f := &fake{}
			e, _ := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10, MaxMessageSize: 64 << 10}, f)
			one, two := f.open(t), f.open(t)
			failed := make(chan error, 2)
			for _, l := range []*fakeLink{one, two} {
				go func() {
					for {
						if err := l.session.Deliver(&framing.Message{Payload: make([]byte, size)}); err != nil {
							failed <- err
							return
						}
					}
				}()
			}
			waitFor(t, "a full ring", func() bool { return one.fill() == 0 })
			time.Sleep(20 * time.Millisecond)
			why := errors.New("enough")
			one.session.Abort(why)
			if err := <-failed; err != why {
				t.Fatal(err)
			}
			closed := make(chan struct{})
			go func() { defer close(closed); _ = e.Close() }()
			if err := <-failed; !errors.Is(err, engine.ErrClosed) {
				t.Fatal(err)
			}
			close(gate)
			<-closed
			if n := e.Stats().Active; n != 0 {
				t.Error(n, " sessions left")
			}
		})
	}
}

// TestOnOpenComesFirstWithAFullRing opens a socket's session while the ring has
// no room for its OnOpen, and lets the room come together with its messages.
func TestOnOpenComesFirstWithAFullRing(t *testing.T) {
	gate := make(chan struct{})
	var once sync.Once
	opens := sync.Map{}
	var early atomic.Int32
	f, b := &fake{}, &slowAccept{in: make(chan struct{}), out: make(chan struct{})}
	h := engine.Callbacks{
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
func (b *slowAccept) Accept(s *engine.Session) engine.Codec {
	close(b.in)
	<-b.out
	return engine.Packets().Accept(s)
}
func (*slowAccept) Connect(context.Context, net.Conn, string, engine.Limits) (engine.Codec, []byte, error) {
	return nil, nil, os.ErrInvalid
}

// TestFullSocketGoesOn writes in bursts that fill the socket to a peer in another
// process that reads at once, while others hold the session's lock again and
// again. The event that says that there is room may come between a write that
// found none and the writer's note of that; it must not be lost.
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

// shy is a protocol that can't tell from fewer than 4 KiB whether it is meant.
type shy struct{ hello }

func (shy) Name() string { return "shy" }
func (shy) Match(first []byte) engine.Match {
	return engine.MatchMore
}

// TestHazard13SlowLorisInTheFirstBytes drips the bytes that tell the protocol:
// the deadline counts from the first.
func TestHazard13SlowLorisInTheFirstBytes(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo, HandshakeTimeout: 300 * time.Millisecond}, shy{hello{engine.Packets()}}, hello{engine.Packets()})
	c := dial(t, addr)
	go func() {
		for {
			if _, err := c.Write([]byte("z")); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second)) // ten times as long as a handshake may take
	_, err := io.ReadAll(c)
	_ = c.Close()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal("the handshake goes on and on")
	}
	waitFor(t, "its end", func() bool { return e.Stats().Refused["handshake_timeout"] == 1 })
}

// TestShutdownFindsSessionsThatAreBeingDialed lets Dial and Shutdown meet.
func TestShutdownFindsSessionsThatAreBeingDialed(t *testing.T) {
	quiet, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = quiet.Close() }()
	go func() {
		for {
			c, err := quiet.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, c); _ = c.Close() }()
		}
	}()
	for i, end := 0, time.Now().Add(4*time.Second); time.Now().Before(end) && !t.Failed(); i++ {
		e := engine.New(engine.Config{Handler: echo, Cores: 1})
		if err := e.Start(); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() { _, _ = e.Dial(context.Background(), quiet.Addr().String(), engine.Packets()) })
		}
		time.Sleep(time.Duration(i%20) * 100 * time.Microsecond)
		ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
		if err := e.Shutdown(ctx); err != nil {
			t.Errorf("round %d: %v", i, err)
		}
		cancel()
		wg.Wait()
	}
}

// TestLinkEndings ends a transport's sessions in every order that a Link may.
func TestLinkEndings(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		why := errors.New("why")
		for name, c := range map[string]struct {
			end  func(l *fakeLink)
			want error
		}{
			"ended by the transport":      {func(l *fakeLink) { l.Close(why, false) }, why},
			"closed, then aborted":        {func(l *fakeLink) { l.session.CloseWith(why); l.session.Abort(nil) }, why},
			"the peer closed":             {func(l *fakeLink) { l.session.PeerClosed() }, engine.ErrPeerClosed},
			"the peer closed, then ended": {func(l *fakeLink) { l.session.PeerClosed(); l.Close(why, false) }, nil},
			"a hold is waited for": {func(l *fakeLink) {
				l.session.Hold()
				l.session.PeerClosed()
				time.Sleep(20 * time.Millisecond)
				select {
				case <-l.ended:
					t.Error("it wasn't")
				default:
				}
				l.session.Release()
			}, engine.ErrPeerClosed},
		} {
			t.Run(name, func(t *testing.T) {
				var count atomic.Int64
				j := newJournal(inOrder(t, &count))
				f := &fake{}
				e, _ := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1}, f)
				l := f.open(t)
				j.session(t)
				for i := range uint32(100) {
					_ = l.session.Deliver(&framing.Message{ID: i})
				}
				waitFor(t, "the messages", func() bool { return count.Load() == 100 })
				c.end(l)
				if err := j.reason(t); c.want != nil && err != c.want {
					t.Error(err)
				}
				<-l.ended
				waitFor(t, "no session", func() bool { return e.Stats().Active == 0 })
				_ = l.session.Deliver(&framing.Message{}) // late: nobody hears it
				if err := l.session.Send(nil); err == nil {
					t.Error("sent after the end")
				}
				time.Sleep(5 * time.Millisecond)
				if len(j.reasons) > 0 || count.Load() != 100 {
					t.Error("a callback behind OnClose")
				}
			})
		}
	})
}
