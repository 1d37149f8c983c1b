package engine_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// lawful is an echo handler that checks promise P1 on every session: OnOpen
// first, messages one at a time and in order, OnClose once and last.
type lawful struct {
	t             *testing.T
	opened, ended atomic.Int64
}

type lawState struct {
	busy   atomic.Bool
	open   bool
	closed bool
	next   uint32
}

type lawKey struct{}

func (l *lawful) enter(s *engine.Session) (*lawState, func()) {
	st, _ := s.Value(lawKey{}).(*lawState)
	if st == nil {
		st = new(lawState)
		s.SetValue(lawKey{}, st)
	}
	if !st.busy.CompareAndSwap(false, true) {
		l.t.Error("two callbacks of one session at the same time")
	}
	return st, func() { st.busy.Store(false) }
}

func (l *lawful) OnOpen(s *engine.Session) {
	st, leave := l.enter(s)
	defer leave()
	if st.open {
		l.t.Error("OnOpen twice")
	}
	st.open = true
	l.opened.Add(1)
}

func (l *lawful) OnMessage(s *engine.Session, m *framing.Message) {
	st, leave := l.enter(s)
	defer leave()
	if !st.open || st.closed {
		l.t.Error("a message of a session that isn't open")
	}
	if m.ID != st.next {
		l.t.Errorf("message %d, expected %d", m.ID, st.next)
	}
	st.next = m.ID + 1
	switch m.BizType {
	case 1:
		s.Pause()
		time.AfterFunc(time.Millisecond, s.Resume)
	case 2:
		s.Hold()
		m = m.Clone()
		go func() {
			time.Sleep(time.Millisecond)
			_ = s.Reply(m, m.Payload)
			s.Release()
		}()
		return
	case 3:
		s.Close()
	case 4:
		s.Abort(nil)
	}
	_ = s.Reply(m, m.Payload)
}

func (l *lawful) OnClose(s *engine.Session, reason error) {
	st, leave := l.enter(s)
	defer leave()
	if !st.open || st.closed || reason == nil {
		l.t.Error("OnClose out of place: ", reason)
	}
	st.closed = true
	l.ended.Add(1)
}

// TestChaos runs peers of all kinds against an engine with little memory: messages must
// stay in order, no session may hang, and none may be left at the end.
func TestChaos(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		l := &lawful{t: t}
		e, addr := serve(t, engine.Config{Handler: l, Dispatch: d, RingSize: 64 << 10, ReadBufferSize: 8 << 10,
			OutboxSoftMark: 32 << 10, OutboxLimit: 8 << 20, MaxMessageSize: 200 << 10, LingerTimeout: 10 * time.Second},
			hello{engine.Packets()}, engine.Packets())
		const workers, each = 16, 20
		var wg sync.WaitGroup
		for w := range workers {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(w), 7))
				for range each {
					visit(t, r, addr)
				}
			})
		}
		wg.Wait()
		waitFor(t, "every session to end", func() bool { return e.Stats().Active == 0 })
		if o, c := l.opened.Load(), l.ended.Load(); o != c || o == 0 {
			t.Errorf("%d sessions opened, %d closed", o, c)
		}
	})
}

// visit is one connection of random manners.
func visit(t *testing.T, r *rand.Rand, addr string) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	c := conn.(*net.TCPConn)
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if r.IntN(4) == 0 {
		_ = c.SetLinger(0)
	}
	var stream, want []byte
	polite := r.IntN(2) == 0
	for id := range r.IntN(200) {
		size := r.IntN(100)
		if r.IntN(30) == 0 {
			size = r.IntN(150 << 10)
		}
		m := framing.Message{ID: uint32(id), Payload: bytes.Repeat([]byte{byte(id)}, size)}
		if r.IntN(20) == 0 {
			m.BizType = 1
		}
		if !polite && r.IntN(20) == 0 {
			m.BizType = uint8(r.IntN(5))
		}
		stream = append(stream, packet(&m)...)
	}
	if polite {
		want = stream
		go func() { writeRandomly(r.Uint64(), c, stream); _ = c.CloseWrite() }()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("a polite peer got %d bytes of %d: %v", len(got), len(want), err)
		}
		return
	}
	switch r.IntN(4) {
	case 0:
		stream = stream[:r.IntN(len(stream)+1)]
	case 1:
		stream = append(stream, "garbage"...)
	case 2:
		stream = append([]byte("hel"), stream...)
	}
	go func() {
		if r := rand.New(rand.NewPCG(1, uint64(len(stream)))); r.IntN(2) == 0 {
			_, _ = io.Copy(io.Discard, c)
		}
	}()
	writeRandomly(r.Uint64(), c, stream)
	time.Sleep(time.Duration(r.IntN(3)) * time.Millisecond)
}

// writeRandomly writes b in random pieces.
func writeRandomly(seed uint64, c *net.TCPConn, b []byte) {
	r := rand.New(rand.NewPCG(seed, 1))
	for len(b) > 0 {
		n := min(len(b), 1+r.IntN(1<<r.IntN(17)))
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
		b = b[n:]
		if r.IntN(50) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}
