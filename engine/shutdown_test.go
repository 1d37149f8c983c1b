package engine_test

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestHazard14LateCallsWriteToNobody calls methods that wake a loop, after the loop has
// closed and its descriptors belong to other files.
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

// TestHazard16ShutdownHandlesWhatWasRead shuts down while a session has messages in memory
// for which the ring had no space.
func TestHazard16ShutdownHandlesWhatWasRead(t *testing.T) {
	gate := make(chan struct{})
	var handled atomic.Int64
	h := engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) {
		<-gate
		handled.Add(1)
	})
	e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10})
	occupy(t, e, addr)
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

// TestCloseOfAnEngineThatNeverStarted: a transport may have filled a ring without a
// consumer.
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
		for l.port.Deliver(&framing.Message{Payload: make([]byte, 1000)}) == nil {
		}
	}()
	time.Sleep(50 * time.Millisecond)
	within(t, 5*time.Second, "Close", func() { _ = e.Close() })
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
