package engine

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/reactor"
)

// fakeLoop is an eventLoop for tests: it has one socket at a time, whose peer is the test,
// and does only the steps that run is asked for. Nothing in it needs a goroutine.
type fakeLoop struct {
	t     *testing.T
	tasks []func()
	again []reactor.Handler

	conn     *reactor.Conn // registered
	in       []byte        // sent by the peer, not yet read
	inErr    error         // after in: io.EOF for its end, or a failure
	space    int           // bytes that the socket takes
	writeErr error
	out      []byte // taken by the socket
	shut     bool   // our side was shut
	cut      bool   // both sides were
	closed   int    // times that the descriptor was closed
	early    bool   // it was closed before the peer's end was read

	rounds reactor.Rounds  // of a sharedFake
	onLoop int             // events and tasks that are running
	during func(full bool) // what happens in a write: before it, or when it has found the socket full
}

var _ eventLoop = (*fakeLoop)(nil)

// sharedFake is a sharedLoop: the core's worker reads. What the test does in a callback,
// after takeOver, is done by the core's reader.
type sharedFake struct{ *fakeLoop }

var _ sharedLoop = sharedFake{}

func (sharedFake) RunRounds(reactor.Rounds) error { return nil }
func (sharedFake) Substitute() error              { return nil }
func (sharedFake) Recall()                        {}
func (sharedFake) Recalled()                      {}

// enter begins a round, unless one is under way. The result ends it.
func (l *fakeLoop) enter() func() {
	l.onLoop++
	if l.rounds == nil || l.onLoop > 1 {
		return func() { l.onLoop-- }
	}
	l.rounds.RoundBegins()
	return func() {
		l.rounds.RoundEnds()
		l.onLoop--
	}
}

func (*fakeLoop) Run() error                 { return nil }
func (*fakeLoop) Stop() error                { return nil }
func (*fakeLoop) Close() error               { return nil }
func (l *fakeLoop) Again(h reactor.Handler)  { l.again = append(l.again, h) }
func (l *fakeLoop) Unregister(*reactor.Conn) { l.conn = nil }

func (l *fakeLoop) CloseFD(int) {
	l.closed++
	l.early = l.inErr == nil || len(l.in) > 0
}

func (l *fakeLoop) Trigger(task reactor.Task, arg any) error {
	l.tasks = append(l.tasks, func() { _ = task(arg) })
	return nil
}

func (l *fakeLoop) Register(c *reactor.Conn) error {
	l.conn = c
	l.tasks = append(l.tasks, func() { // a poller reports input that is there already
		if l.inErr != nil {
			l.event(reactor.ToTheEnd)
		}
		l.event(reactor.Readable | reactor.Writable)
	})
	return nil
}

func (l *fakeLoop) ShutdownWrite(int) {
	if l.shut || l.closed > 0 {
		l.t.Error("shut twice, or after it was closed")
	}
	l.shut = true
}

func (l *fakeLoop) ShutdownBoth(int) { l.cut = true }

func (l *fakeLoop) Read(_ int, b []byte) (int, error) {
	if l.closed > 0 {
		l.t.Error("read after it was closed")
	}
	switch {
	case len(l.in) > 0:
		n := copy(b, l.in)
		l.in = l.in[n:]
		return n, nil
	case l.inErr == io.EOF:
		return 0, nil
	case l.inErr != nil:
		return 0, l.inErr
	}
	return 0, unix.EAGAIN
}

func (l *fakeLoop) Write(_ int, b []byte) (int, error) {
	if l.during != nil {
		l.during(false)
	}
	if l.closed > 0 || l.shut {
		l.t.Error("written after it was shut or closed")
	}
	if l.writeErr != nil {
		return 0, l.writeErr
	}
	n := min(len(b), l.space)
	if n == 0 {
		if l.during != nil {
			l.during(true)
		}
		return 0, unix.EAGAIN
	}
	l.space -= n
	l.out = append(l.out, b[:n]...)
	return n, nil
}

func (l *fakeLoop) Writev(fd int, bufs [][]byte) (total int, err error) {
	for _, b := range bufs {
		n, err := l.Write(fd, b)
		total += n
		if err != nil && total > 0 {
			return total, nil
		}
		if err != nil || n < len(b) {
			return total, err
		}
	}
	return total, nil
}

// event reports ev to the socket, if it is registered.
func (l *fakeLoop) event(ev reactor.Event) {
	defer l.enter()()
	if l.conn != nil {
		l.conn.Handler.OnEvent(ev)
	}
}

// step runs the oldest task, or the oldest turn, and reports whether there was one.
func (l *fakeLoop) step() bool {
	defer l.enter()()
	switch {
	case len(l.tasks) > 0:
		task := l.tasks[0]
		l.tasks = l.tasks[1:]
		task()
	case len(l.again) > 0:
		h := l.again[0]
		l.again = l.again[1:]
		h.OnEvent(reactor.Readable)
	default:
		return false
	}
	return true
}

// fakeSession is a connection on a fakeLoop, of an engine that does not run. The
// test is the loop and the worker.
type fakeSession struct {
	*fakeLoop
	engine *Engine
	core   *core
	conn   *socketConn
}

// newFakeSession accepts a connection on a listener of these protocols. In Workers dispatch
// the worker never reads.
func newFakeSession(t *testing.T, cfg Config, protocols ...Protocol) *fakeSession {
	t.Helper()
	loop := &fakeLoop{t: t, space: 1 << 30}
	return newFakeSessionOn(t, loop, loop, cfg, protocols)
}

// newSharedSession is newFakeSession for a worker that reads.
func newSharedSession(t *testing.T, cfg Config, protocols ...Protocol) *fakeSession {
	t.Helper()
	loop := &fakeLoop{t: t, space: 1 << 30}
	return newFakeSessionOn(t, loop, sharedFake{loop}, cfg, protocols)
}

func newFakeSessionOn(t *testing.T, loop *fakeLoop, poller eventLoop, cfg Config, protocols []Protocol) *fakeSession {
	t.Helper()
	cfg.Cores = 1
	e := New(cfg)
	if e.err != nil {
		t.Fatal(e.err)
	}
	l := &Listener{engine: e}
	if err := l.policy.set(e, &ListenConfig{}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.sort("127.0.0.1:0", protocols); err != nil {
		t.Fatal(err)
	}
	k := newCoreOn(e, 0, poller)
	restoreMemory(t)
	if k.shared != nil {
		loop.rounds = k
	}
	e.cores = append(e.cores, k)
	remote, header := l.admissionAddr(netip.MustParseAddrPort("127.0.0.1:9"))
	if err := e.admit(l, remote.Addr()); err != nil || !e.admission.beginHandshake(0) || !e.beginSession() {
		t.Fatal("not admitted")
	}
	_, c := newSocketSession(e, l, -1, remote)
	if !header {
		c.stage = stageTLSOrPlain
	}
	_ = loop.Trigger(attachTask, c)
	return &fakeSession{loop, e, k, c}
}

// run runs the loop and the worker until neither has anything to do.
func (f *fakeSession) run() {
	for rounds := 0; f.step() || f.consume(); rounds++ {
		if rounds > 1_000_000 {
			f.t.Fatal("the loop never comes to rest")
		}
	}
}

// consume makes the worker handle the records in the ring, and reports whether there
// were any.
func (f *fakeSession) consume() bool {
	if f.core.inline {
		return false
	}
	if f.core.shared == nil {
		return f.core.consumer.batch()
	}
	ready := f.core.ring.Ready()
	f.enter()()
	return ready
}

// send adds bytes that the peer sends.
func (f *fakeSession) send(b []byte) {
	f.in = append(f.in, b...)
	f.event(reactor.Readable | reactor.Writable)
}

// end ends the peer's side: with io.EOF, or a failure.
func (f *fakeSession) end(err error) {
	f.inErr = err
	f.event(reactor.Readable | reactor.Writable | reactor.ToTheEnd)
}

// makeSpace makes space for n bytes in the socket.
func (f *fakeSession) makeSpace(n int) {
	f.space += n
	f.event(reactor.Writable)
}

// wait lets that many ticks pass.
func (f *fakeSession) wait(ticks int64) {
	f.engine.epoch = f.engine.epoch.Add(-tickInterval * time.Duration(ticks))
	defer f.enter()()
	f.core.setTick()
	f.core.advance()
}

// discardLogger is for tests that provoke warnings.
func discardLogger() *slog.Logger { return slog.New(slog.DiscardHandler) }
