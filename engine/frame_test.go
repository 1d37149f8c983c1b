package engine_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// formCodec is a codec of a form, which a test may watch.
type formCodec struct {
	scriptedCodec
	form func() engine.Form
}

func (c *formCodec) Form() engine.Form { return c.form() }

// withForm returns a protocol of packets whose codecs have a form, and encode by appended.
func withForm(form engine.Form, appended func(dst []byte, m *framing.Message) ([]byte, error)) *scripted {
	return &scripted{accept: func(*engine.Control) engine.Codec {
		c := &formCodec{form: func() engine.Form { return form }}
		c.Codec = engine.Packets().Accept(nil)
		c.append = appended
		return c
	}}
}

// openMany dials n connections to addr, and returns them with their sessions in j.
func openMany(t testing.TB, j *journal, addr string, n int) (peers []*net.TCPConn, sessions []*engine.Session) {
	t.Helper()
	for range n {
		c := dial(t, addr)
		_, _ = c.Write(ping) // a listener of several protocols waits for it
		peers = append(peers, c)
		sessions = append(sessions, j.session(t))
	}
	return peers, sessions
}

// TestFrameIsEncodedOnceForEachForm: for any number of sessions on all cores, to which
// many goroutines send it at once. A codec without a form encodes it for each session.
func TestFrameIsEncodedOnceForEachForm(t *testing.T) {
	const sessions, senders = 20, 8
	shared := engine.NewForm()
	for _, c := range []struct {
		form engine.Form
		want int32
	}{{shared, 1}, {engine.FormPacket, 0}, {0, sessions * senders}} {
		var encoded atomic.Int32
		p := withForm(c.form, func(dst []byte, m *framing.Message) ([]byte, error) {
			encoded.Add(1)
			for range 100 {
				runtime.Gosched() // the other senders come
			}
			return framing.AppendPacket(dst, m)
		})
		j := newJournal(nil)
		_, addr := serve(t, engine.Config{Handler: j, Cores: 4}, p)
		peers, targets := openMany(t, j, addr, sessions)
		m := &framing.Message{ID: 3, BizType: 4, Ext: []byte("ext"), Payload: make([]byte, 5000)}
		want := bytes.Repeat(packet(m), senders)
		f := engine.NewFrame(m)
		clear(m.Ext) // f has a copy
		m.Payload[9] = 1
		var wg sync.WaitGroup
		for first := range senders {
			wg.Go(func() {
				for i := range sessions {
					if err := targets[(first+i)%sessions].SendFrame(f); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		for _, peer := range peers {
			expect(t, peer, want)
		}
		if n := encoded.Load(); n != c.want {
			t.Errorf("form %d: encoded %d times, want %d", c.form, n, c.want)
		}
	}
}

// TestFormIsAskedAfterTheHandshake, which may decide it, and once for each frame.
func TestFormIsAskedAfterTheHandshake(t *testing.T) {
	var greeted atomic.Bool
	var asked atomic.Int32
	p := &scripted{accept: func(*engine.Control) engine.Codec {
		c := &formCodec{form: func() engine.Form {
			if asked.Add(1); !greeted.Load() {
				t.Error("asked before the handshake")
			}
			return engine.FormPacket
		}}
		c.Codec = engine.Packets().Accept(nil)
		c.greeting = greets("!", func(ctl *engine.Control) {
			greeted.Store(true)
			if err := ctl.Session().SendFrame(&engine.Frame{}); err != engine.ErrWouldBlock {
				t.Errorf("a frame in the handshake: %v", err)
			}
			if err := ctl.Session().SendOwned(nil, nil); err != engine.ErrWouldBlock {
				t.Errorf("a payload in the handshake: %v", err)
			}
		})
		return c
	}}
	h := engine.HandlerFunc(func(s *engine.Session, _ *framing.Message) {
		var zero engine.Frame
		for range 3 {
			if err := s.SendFrame(&zero); err != nil {
				t.Error(err)
			}
		}
	})
	_, addr := serve(t, engine.Config{Handler: h}, p)
	c := dial(t, addr)
	_, _ = c.Write(append([]byte("!"), ping...))
	expect(t, c, bytes.Repeat(packet(&framing.Message{}), 3))
	if asked.Load() != 3 {
		t.Errorf("asked %d times", asked.Load())
	}
}

// TestFrameThatCannotBeEncoded: every session gets the error of the one encoding, and goes
// on. A panic ends the session that met it; the next one encodes again.
func TestFrameThatCannotBeEncoded(t *testing.T) {
	var calls atomic.Int32
	p := withForm(engine.NewForm(), func(dst []byte, m *framing.Message) ([]byte, error) {
		switch n := calls.Add(1); {
		case m.ID == 1:
			return dst, framing.ErrUnencodable
		case m.ID == 2 && n == 2:
			panic("append")
		}
		return framing.AppendPacket(dst, m)
	})
	j := newJournal(nil)
	_, addr := serve(t, engine.Config{Handler: j}, p)
	peers, sessions := openMany(t, j, addr, 3)
	f := engine.NewFrame(&framing.Message{ID: 1})
	for _, s := range sessions {
		if err := s.SendFrame(f); !errors.Is(err, framing.ErrUnencodable) || s.Err() != nil {
			t.Error(err, s.Err())
		}
	}
	m := &framing.Message{ID: 2, Payload: []byte("payload")}
	f = engine.NewFrame(m)
	if err := sessions[0].SendFrame(f); !errors.Is(err, engine.ErrHandlerPanic) || !errors.Is(j.reason(t), engine.ErrHandlerPanic) {
		t.Error(err)
	}
	for i, s := range sessions[1:] {
		if err := s.SendFrame(f); err != nil {
			t.Error(err)
		}
		expect(t, peers[i+1], packet(m))
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls of Append", calls.Load())
	}
}

// sendAll sends messages 0 to n-1 to s in every way that there is, in turn; first is the
// number in their payloads.
func sendAll(t *testing.T, s *engine.Session, m *framing.Message, n uint32, r *releases) {
	for i := range n {
		p := make([]byte, 4+[...]int{0, 100, 3000, 20_000}[i/5%4])
		binary.BigEndian.PutUint32(p, i)
		var err error
		switch i % 5 {
		case 0:
			err = s.Reply(m, p)
		case 1:
			err = s.SendFrame(engine.NewFrame(&framing.Message{Payload: p}))
		case 2:
			err = s.SendOwned(p, r.one(p))
		case 3:
			err = s.Send(p)
		case 4:
			err = s.SendFrame(engine.NewFrame(&framing.Message{Payload: p, Ext: []byte("ext")}))
		}
		if err != nil {
			t.Errorf("message %d: %v", i, err)
			return
		}
	}
}

// releases counts the payloads of SendOwned that are released, and how often.
type releases struct {
	sent, released, again atomic.Int32
}

// one returns the release function of p, which overwrites p.
func (r *releases) one(p []byte) func() {
	var once atomic.Bool
	r.sent.Add(1)
	return func() {
		if once.Swap(true) {
			r.again.Add(1)
		}
		clear(p)
		r.released.Add(1)
	}
}

// await waits until all payloads are released.
func (r *releases) await(t testing.TB) {
	t.Helper()
	testkit.Eventually(t, func() bool { return r.released.Load() >= r.sent.Load() }, "release")
	if r.again.Load() != 0 || r.released.Load() != r.sent.Load() {
		t.Errorf("%d of %d payloads are released, %d again", r.released.Load(), r.sent.Load(), r.again.Load())
	}
}

// TestEveryWayToSendKeepsTheOrder: from a callback and from another goroutine, to a peer
// that takes the bytes slowly, with and without TLS.
func TestEveryWayToSendKeepsTheOrder(t *testing.T) {
	const n = 300
	for _, tls := range []bool{false, true} {
		eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
			for _, outside := range []bool{false, true} {
				var r releases
				h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
					if m.ID > 1 {
						return // they make the engine collect replies
					}
					if outside {
						m := m.Clone()
						go sendAll(t, s, m, n, &r)
						return
					}
					sendAll(t, s, m, n, &r)
				})
				cfg := engine.Config{Handler: h, Dispatch: d, OutboxLimit: 64 << 20, Socket: engine.SocketOptions{WriteBuffer: 8 << 10}}
				var c net.Conn
				if tls {
					_, addr := serve(t, cfg, overTLS(), engine.Packets())
					c = dialTLS(t, addr, clientTLS(0))
				} else {
					_, addr := serve(t, cfg)
					c = dial(t, addr)
				}
				_, _ = c.Write(append(packet(&framing.Message{ID: 1}), bytes.Repeat(ping, 5)...))
				next := uint32(0)
				readPackets(t, c, n, func(m *framing.Message) {
					if i := binary.BigEndian.Uint32(m.Payload); i != next {
						t.Fatalf("message %d where %d is due", i, next)
					}
					next++
				})
				r.await(t)
			}
		})
	}
}

// TestSlowConsumersOfFrames: a peer that does not read is treated as with Send. Those that
// read get every frame.
func TestSlowConsumersOfFrames(t *testing.T) {
	const n, size = 500, 20_000
	for _, policy := range []engine.SlowConsumerPolicy{
		engine.SlowConsumerClose, engine.SlowConsumerDropNewest, engine.SlowConsumerDropOldest,
	} {
		j := newJournal(nil)
		cfg := engine.Config{
			Handler: j, SlowConsumer: policy, OutboxLimit: 1 << 20,
			Socket: engine.SocketOptions{WriteBuffer: 64 << 10},
		}
		e, addr := serve(t, cfg)
		peers, sessions := openMany(t, j, addr, 4)
		slow, good := sessions[0], sessions[1:]
		var failed error
		dropped := 0
		for i := range uint32(n) {
			f := engine.NewFrame(&framing.Message{ID: i, Payload: make([]byte, size)})
			for k, s := range good {
				if err := s.SendFrame(f); err != nil {
					t.Fatal(err)
				}
				expect(t, peers[k+1], packet(f.Message()))
			}
			switch err := slow.SendFrame(f); {
			case errors.Is(err, engine.ErrDropped):
				dropped++
			case err != nil && failed == nil:
				failed = err
			}
		}
		switch policy {
		case engine.SlowConsumerClose:
			if !errors.Is(failed, engine.ErrSlowConsumer) || !errors.Is(j.reason(t), engine.ErrSlowConsumer) {
				t.Error(failed)
			}
			continue
		case engine.SlowConsumerDropNewest:
		case engine.SlowConsumerDropOldest:
			dropped = int(e.Stats().DroppedMessages)
		}
		_ = peers[0].CloseWrite()
		got := ids(t, peers[0])
		if failed != nil || dropped == 0 || e.Stats().DroppedMessages != uint64(dropped) || len(got) != n-dropped || !increasing(got) {
			t.Errorf("policy %d: %v, %d dropped, %d of %d arrived", policy, failed, dropped, len(got), n)
		}
		if last := got[len(got)-1]; policy == engine.SlowConsumerDropOldest && last != n-1 {
			t.Errorf("the last frame is %d", last)
		}
	}
}

// TestOwnedPayloadsAreReleasedInEveryEnding: exactly once.
func TestOwnedPayloadsAreReleasedInEveryEnding(t *testing.T) {
	endings := map[string]func(e *engine.Engine, s *engine.Session, peer net.Conn){
		"read":   func(_ *engine.Engine, s *engine.Session, peer net.Conn) { go io.Copy(io.Discard, peer); s.Close() },
		"linger": func(_ *engine.Engine, s *engine.Session, _ net.Conn) { s.Close() },
		"abort":  func(_ *engine.Engine, s *engine.Session, _ net.Conn) { s.Abort(nil) },
		"engine": func(e *engine.Engine, _ *engine.Session, _ net.Conn) { _ = e.Close() },
		"reset": func(_ *engine.Engine, _ *engine.Session, peer net.Conn) {
			if c, ok := peer.(interface{ NetConn() net.Conn }); ok {
				peer = c.NetConn()
			}
			_ = peer.(*net.TCPConn).SetLinger(0)
			_ = peer.Close()
		},
		"policy": func(_ *engine.Engine, s *engine.Session, _ net.Conn) {
			for s.Send(make([]byte, 10_000)) == nil {
			}
		},
	}
	for name, end := range endings {
		for _, policy := range []engine.SlowConsumerPolicy{engine.SlowConsumerClose, engine.SlowConsumerDropOldest} {
			if name == "policy" && policy != engine.SlowConsumerClose {
				continue // it never ends
			}
			for _, tls := range []bool{false, true} {
				t.Run(name, func(t *testing.T) {
					var r releases
					j := newJournal(nil)
					cfg := engine.Config{
						Handler: j, SlowConsumer: policy,
						OutboxLimit: 4 << 20, LingerTimeout: 100 * time.Millisecond, Socket: engine.SocketOptions{WriteBuffer: 64 << 10},
					}
					e, s, peer := slowPeer(t, j, cfg, tls)
					for range 300 { // more than the outbox and the socket take
						p := make([]byte, 50_000)
						if err := s.SendOwned(p, r.one(p)); err != nil {
							break
						}
					}
					end(e, s, peer)
					_ = j.reason(t)
					p := make([]byte, 50_000)
					if err := s.SendOwned(p, r.one(p)); err == nil || s.SendFrame(&engine.Frame{}) == nil {
						t.Error("sent after the end")
					}
					r.await(t)
				})
			}
		}
	}
}

// slowPeer opens a session, with TLS or without, whose peer does not read.
func slowPeer(t *testing.T, j *journal, cfg engine.Config, tls bool) (*engine.Engine, *engine.Session, net.Conn) {
	t.Helper()
	if tls {
		e, addr := serve(t, cfg, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(0))
		_, _ = c.Write(ping)
		return e, j.session(t), c
	}
	e, addr := serve(t, cfg)
	c := dial(t, addr)
	return e, j.session(t), c
}

// TestReleaseIsFree: release may block, call the session, and panic, which ends the
// session.
func TestReleaseIsFree(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		j := newJournal(nil)
		_, addr := serve(t, engine.Config{Handler: j})
		c := dial(t, addr)
		s := j.session(t)
		var mine sync.Mutex
		done := make(chan error, 1)
		mine.Lock()
		err := s.SendOwned(make([]byte, size), func() {
			mine.Lock() // held while SendOwned runs
			defer mine.Unlock()
			done <- s.Send([]byte("again"))
		})
		mine.Unlock()
		if err != nil {
			t.Fatal(err)
		}
		expect(t, c, packet(&framing.Message{ID: 1, Payload: make([]byte, size)}))
		if err := <-done; err != nil {
			t.Error(err)
		}
		expect(t, c, packet(&framing.Message{ID: 2, Payload: []byte("again")}))
		for id := range uint32(100) {
			if err := s.SendOwned(make([]byte, size), nil); err != nil {
				t.Error(err)
			}
			expect(t, c, packet(&framing.Message{ID: 3 + id, Payload: make([]byte, size)}))
		}
		if err := s.SendOwned(make([]byte, size), func() { panic("release") }); err != nil {
			t.Error(err)
		}
		var p *engine.PanicError
		if err := j.reason(t); !errors.As(err, &p) || p.Value != "release" {
			t.Error(err)
		}
		mine.Lock()
		err = s.SendOwned(make([]byte, size), func() {
			mine.Lock()
			defer mine.Unlock()
			done <- nil
		})
		mine.Unlock()
		if <-done; !errors.Is(err, engine.ErrHandlerPanic) {
			t.Errorf("after the end: %v", err)
		}
	}
}
