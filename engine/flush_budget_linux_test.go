package engine_test

import (
	"bytes"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// flushBound is the most that one flush may write: a budget of 1 MiB and one more system
// call of 8 blocks of 64 KiB.
const flushBound = 3 << 19

// discard reads from c to its end and counts, without copying: so it is faster
// than the writer.
func discard(c *net.TCPConn, total *atomic.Uint64) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 1<<20)
	for n := 1; n > 0 && err == nil; {
		err = raw.Read(func(fd uintptr) bool {
			var readErr error
			if n, _, readErr = unix.Recvfrom(int(fd), buf, unix.MSG_TRUNC); n > 0 {
				total.Add(uint64(n))
			}
			return readErr != unix.EAGAIN
		})
	}
}

// turnMeter measures on the loop how many bytes the engine writes between the
// turns of one connection that has input for each.
type turnMeter struct {
	engine     *engine.Engine
	held, gate chan struct{}
	started    bool
	last, most uint64 // of Stats.BytesOut
}

func (m *turnMeter) decode(next engine.Codec, ctl *engine.Control, b []byte, seen int, msg *framing.Message) (int, bool, error) {
	if !m.started {
		m.started = true
		close(m.held)
		<-m.gate
		m.last = m.engine.Stats().BytesOut
	}
	now := m.engine.Stats().BytesOut
	m.most = max(m.most, now-m.last)
	m.last = now
	return next.Decode(ctl, b, seen, msg)
}

// TestHazard32FlushOnTheLoopHasABudget lets the loop flush 64 MB to a peer that
// takes them as fast as they are written, while another connection of the same
// loop has input for many turns. With workers, a thread that the system suspends in its
// turn counts as a slow callback, and the core's other thread rightly goes on writing: such
// a round says nothing.
func TestHazard32FlushOnTheLoopHasABudget(t *testing.T) {
	const size, queued, rounds, tries = 60 << 10, 64 << 20, 4, 20
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		most, valid := uint64(0), 0
		for try := 0; valid < rounds && try < tries; try++ {
			m := &turnMeter{held: make(chan struct{}), gate: make(chan struct{})}
			j := newJournal(nil)
			j.Message = func(*engine.Session, *framing.Message) {}
			e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1, ReadBufferSize: 4 << 10, OutboxLimit: 2 * queued})
			m.engine = e
			l, err := e.Listen("127.0.0.1:0", &scripted{codec: scriptedCodec{decode: m.decode}})
			if err != nil {
				t.Fatal(err)
			}
			c := dial(t, addr)
			s := j.session(t)
			sent := 0
			for ; sent < queued; sent += size + framing.PacketHeaderSize {
				if err := s.Send(make([]byte, size)); err != nil {
					t.Fatal(err)
				}
			}
			neighbor := dial(t, l.Addr().String())
			_, _ = neighbor.Write(numbered(128, 2000)) // a read takes two messages
			<-m.held
			var got atomic.Uint64
			go discard(c, &got)
			waitFor(t, "the socket to be empty", func() bool { return got.Load() == e.Stats().BytesOut })
			close(m.gate)
			waitFor(t, "the neighbor's input", func() bool { return e.Stats().MessagesIn == 128 })
			waitFor(t, "all that was queued", func() bool { return got.Load() == uint64(sent) })
			s.Abort(nil)
			_ = e.Close()
			if e.Stats().Cores[0].Takeovers == 0 {
				most = max(most, m.most)
				valid++
			}
		}
		if valid == 0 {
			t.Skip("no round without a take-over: the machine is too busy")
		}
		if most > 2*flushBound { // an event and a turn
			t.Errorf("%d bytes between two turns of another connection", most)
		}
	})
}

// writtenByThread is how many bytes the calling thread has written, if the system
// counts that.
func writtenByThread() (n uint64, ok bool) {
	b, _ := os.ReadFile("/proc/thread-self/io")
	_, b, _ = bytes.Cut(b, []byte("wchar: "))
	b, _, _ = bytes.Cut(b, []byte("\n"))
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil
}

// TestHazard32SendHasABudget has several goroutines send to one session, whose
// peer takes it as fast as it is written.
func TestHazard32SendHasABudget(t *testing.T) {
	if _, ok := writtenByThread(); !ok {
		t.Skip("the system doesn't count what a thread writes")
	}
	const total = 256 << 20
	j := newJournal(nil)
	e, addr := serve(t, engine.Config{Handler: j, Cores: 1, OutboxLimit: 64 << 20, SlowConsumer: engine.SlowConsumerDropNewest})
	c := dial(t, addr)
	s := j.session(t)
	var got atomic.Uint64
	go discard(c, &got)
	payload := make([]byte, 8<<10)
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			for e.Stats().BytesOut < total && !t.Failed() {
				before, _ := writtenByThread()
				_ = s.Send(payload)
				if after, _ := writtenByThread(); after-before > flushBound {
					t.Errorf("one Send wrote %d bytes", after-before)
				}
			}
		})
	}
	senders.Wait()
}
