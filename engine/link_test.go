package engine_test

import (
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestPauseThatMeetsResumeHolds: several goroutines pause and resume a link, which must end
// in the state of the last count.
func TestPauseThatMeetsResumeHolds(t *testing.T) {
	f := &fake{}
	serve(t, engine.Config{Handler: echo}, f)
	l := f.open(t)
	resuming, paused := make(chan struct{}), make(chan struct{})
	var once sync.Once
	l.onPause = func(p bool) {
		if !p {
			once.Do(func() { close(resuming); <-paused })
		}
	}
	l.session.Pause()
	done := make(chan struct{})
	go func() { l.session.Resume(); close(done) }()
	<-resuming
	pausing := make(chan struct{})
	go func() { l.session.Pause(); close(pausing) }()
	select {
	case <-pausing:
	case <-time.After(100 * time.Millisecond): // an engine that waits is right too
	}
	close(paused)
	<-done
	<-pausing
	if !l.paused.Load() {
		t.Error("paused, but the link goes on")
	}
	for range 200 { // and without another sender
		var wg sync.WaitGroup
		wg.Go(l.session.Resume)
		wg.Go(l.session.Pause)
		wg.Wait()
		if !l.paused.Load() {
			t.Fatal("paused, but the link goes on")
		}
	}
}

// TestDeliveryKeepsTheLaw: goroutines that deliver to one session at once, its
// opening and its end don't run two callbacks at a time, and keep their order.
func TestDeliveryKeepsTheLaw(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		const goroutines, batches, batch = 4, 50, 20
		var busy, handled atomic.Int32
		var opened, closed bool // guarded by busy being 0
		last := [goroutines]uint32{}
		callback := func(f func()) {
			if !busy.CompareAndSwap(0, 1) {
				t.Error("two callbacks at the same time")
			}
			f()
			busy.Store(0)
		}
		ended := make(chan struct{})
		f := &fake{}
		e, _ := serve(t, engine.Config{Dispatch: d, RingSize: 64 << 10, Handler: engine.HandlerFuncs{
			Open: func(*engine.Session) {
				time.Sleep(20 * time.Millisecond) // let the deliverers come
				callback(func() { opened = true })
			},
			Message: func(s *engine.Session, m *framing.Message) {
				callback(func() {
					if !opened || closed || m.ID != last[m.Stream]+1 || string(m.Payload) != strconv.Itoa(int(m.ID)) {
						t.Error(opened, closed, m.ID, last[m.Stream], string(m.Payload))
					}
					last[m.Stream] = m.ID
				})
				handled.Add(1)
			},
			Close: func(*engine.Session, error) {
				callback(func() { closed = true })
				close(ended)
			},
		}}, f)
		l := f.open(t)
		var wg sync.WaitGroup
		for g := range uint64(goroutines) {
			wg.Go(func() {
				var delivery engine.Delivery
				var m framing.Message
				for id := uint32(1); id <= batches*batch; {
					delivery.Begin(l.port, 100)
					for range batch {
						m.ID, m.Stream, m.Payload = id, g, append(m.Payload[:0], strconv.Itoa(int(id))...)
						if err := delivery.Message(&m); err != nil {
							t.Error(err)
						}
						id++
					}
					delivery.End()
				}
			})
		}
		wg.Wait()
		l.port.PeerClosed()
		<-ended
		if n := handled.Load(); n != goroutines*batches*batch {
			t.Errorf("%d messages were handled", n)
		}
		if n := e.Stats().MessagesIn; n != goroutines*batches*batch {
			t.Errorf("%d messages are counted", n)
		}
		if err := l.port.Deliver(&framing.Message{}); d == engine.Inline && !errors.Is(err, engine.ErrPeerClosed) {
			t.Errorf("behind OnClose: %v", err)
		}
	})
}

// TestInlineDeliveryFlushesOnce: messages that the callbacks of a delivery send are flushed
// at its end, and calls for their own session work.
func TestInlineDeliveryFlushesOnce(t *testing.T) {
	f := &fake{}
	var flushes int32
	serve(t, engine.Config{Dispatch: engine.Inline, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		switch string(m.Payload) {
		case "send":
			_ = s.Reply(m, nil)
		case "panic":
			panic("as asked")
		case "close":
			s.Pause()
			s.Resume()
			s.Close()
		}
	})}, f)
	for _, last := range []string{"close", "panic"} {
		l := f.open(t)
		var d engine.Delivery
		d.Begin(l.port, 0)
		flushes = l.flushes.Load()
		for range 10 {
			if err := d.Message(&framing.Message{Payload: []byte("send")}); err != nil {
				t.Fatal(err)
			}
		}
		if n := l.flushes.Load() - flushes; n != 0 {
			t.Errorf("%d flushes in the middle", n)
		}
		if err := d.Message(&framing.Message{Payload: []byte(last)}); err != nil {
			t.Fatal(err)
		}
		err := d.Message(&framing.Message{})
		if last == "panic" && !errors.Is(err, engine.ErrHandlerPanic) || last == "close" && !errors.Is(err, engine.ErrClosed) {
			t.Errorf("behind %s: %v", last, err)
		}
		d.End()
		if n := l.flushes.Load() - flushes; n != 1 {
			t.Errorf("%d flushes at the end", n)
		}
		<-l.ended
	}
}

// TestRepliesKeepTheirOrder: replies are collected until another message is sent, and go
// through the link after that.
func TestRepliesKeepTheirOrder(t *testing.T) {
	f := &fake{}
	serve(t, engine.Config{Dispatch: engine.Inline, MaxMessageSize: 100, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		if err := s.Reply(m, m.Payload); err != nil && len(m.Payload) <= 100 {
			t.Error(err)
		}
		_ = s.Reply(m.Clone(), m.Payload) // isn't the callback's own: through the link
	})}, f)
	l := f.open(t)
	var d engine.Delivery
	collect := func(prepare func(), messages ...*framing.Message) (int, int, int) {
		d.Begin(l.port, 0)
		d.Collect(make([]byte, 0, 64), 0)
		prepare()
		for _, m := range messages {
			if err := d.Message(m); err != nil {
				t.Fatal(err)
			}
		}
		b, responses, oneWays := d.Collected()
		d.End()
		return len(b), responses, oneWays
	}
	ask := &framing.Message{Type: framing.Request, ID: 1, Payload: []byte("abcd")}
	tell := &framing.Message{ID: 1}
	if n, responses, oneWays := collect(func() {}, ask, tell); n != 36 || responses != 1 || oneWays != 1 {
		t.Error(n, responses, oneWays)
	}
	if n, _, _ := collect(func() {}, tell, &framing.Message{Stream: 7}, tell); n != 16 {
		t.Errorf("%d bytes: a reply passed one to another stream", n)
	}
	if n, _, _ := collect(d.StopCollecting, ask); n != 0 {
		t.Error("collected when broken")
	}
	large := &framing.Message{Payload: make([]byte, 50)}
	if n, _, _ := collect(func() {}, tell, large, tell); n != 16 {
		t.Errorf("%d bytes: a reply passed the one that had no room", n)
	}
}

// TestLinkRate: a link is paused until its rate allows the excess, for any goroutine that
// delivers; Deliver does not sleep.
func TestLinkRate(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		f := &fake{}
		e, _ := serve(t, engine.Config{Dispatch: d, Handler: echo, MessageRate: 20}, f)
		l := f.open(t)
		start := time.Now()
		var wg sync.WaitGroup
		for range 30 { // 20 at once, and ten for half a second
			wg.Go(func() { _ = l.port.Deliver(&framing.Message{}) })
		}
		wg.Wait()
		if !l.paused.Load() {
			t.Fatal("the link isn't paused")
		}
		waitFor(t, "the link to go on", func() bool { return !l.paused.Load() })
		if took := time.Since(start); took < 450*time.Millisecond {
			t.Errorf("the link went on after %v", took)
		}
		if n := e.Stats().Throttled; n == 0 {
			t.Error("not counted")
		}
		for range 500 {
			_ = l.port.Deliver(&framing.Message{})
		}
		l.session.Close() // doesn't wait for the 25 seconds
		<-l.ended
	})
}

// TestDeliverEndsWithTheSession: a call that waits for space in the ring returns when the
// session ends, and when the engine does. In Inline dispatch a link's messages do not use
// the ring.
func TestDeliverEndsWithTheSession(t *testing.T) {
	for name, size := range map[string]int{"small": 10, "large": 60_000} {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			h := engine.HandlerFunc(func(*engine.Session, *framing.Message) { <-gate })
			f := &fake{}
			e, _ := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10, MaxMessageSize: 64 << 10}, f)
			one, two := f.open(t), f.open(t)
			failed := make(chan error, 2)
			for _, l := range []*fakeLink{one, two} {
				go func() {
					for {
						if err := l.port.Deliver(&framing.Message{Payload: make([]byte, size)}); err != nil {
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
			"the peer closed":             {func(l *fakeLink) { l.port.PeerClosed() }, engine.ErrPeerClosed},
			"the peer closed, then ended": {func(l *fakeLink) { l.port.PeerClosed(); l.Close(why, false) }, nil},
			"a hold is waited for": {func(l *fakeLink) {
				l.session.Hold()
				l.port.PeerClosed()
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
					_ = l.port.Deliver(&framing.Message{ID: i})
				}
				waitFor(t, "the messages", func() bool { return count.Load() == 100 })
				c.end(l)
				if err := j.reason(t); c.want != nil && err != c.want {
					t.Error(err)
				}
				<-l.ended
				waitFor(t, "no session", func() bool { return e.Stats().Active == 0 })
				_ = l.port.Deliver(&framing.Message{}) // late: it has no effect
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

// TestLargeMessagesAreCopiedWhenThereIsRoom: goroutines that wait to deliver large
// messages hold no copies of them.
func TestLargeMessagesAreCopiedWhenThereIsRoom(t *testing.T) {
	const goroutines, size = 64, 1 << 20
	gate := make(chan struct{})
	var handled atomic.Int32
	f := &fake{}
	serve(t, engine.Config{Cores: 1, Handler: engine.HandlerFunc(func(*engine.Session, *framing.Message) {
		<-gate
		handled.Add(1)
	})}, f)
	l := f.open(t)
	payload := make([]byte, size) // the same for all: it is borrowed
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			if err := l.port.Deliver(&framing.Message{Payload: payload}); err != nil {
				t.Error(err)
			}
		})
	}
	for last, calm := int64(0), 0; calm < 10; time.Sleep(20 * time.Millisecond) {
		calm++
		if n := heap(); n > last+size/2 {
			last, calm = n, 0
		}
	}
	if n := heap() - before; n > goroutines*size/4 {
		t.Errorf("%d MiB wait for the handler", n>>20)
	}
	close(gate)
	wg.Wait()
	waitFor(t, "all messages", func() bool { return handled.Load() == goroutines })
}
