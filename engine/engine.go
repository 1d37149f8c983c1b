// Package engine serves network peers of any transport through one Handler.
//
// An Engine has a number of cores. Each core is a worker thread, pinned to a CPU, that
// runs an event loop: it reads the sessions' sockets, decodes their bytes in place, runs
// the handler and writes the replies. If the handler takes long, a second thread runs the
// event loop, and a ring carries the messages to the worker. docs/ARCHITECTURE.md
// describes the path of a message.
//
// # For applications
//
// [New] makes an [Engine] of a [Config] ([Dispatch], [SlowConsumerPolicy], [SocketOptions]).
// [Engine.Listen] and [Engine.Dial] take each [Protocol]; [DialConfig] is for one dial,
// [ListenConfig] for one [Listener], [TLSConfig] with [CertSource] for a [TLSProtocol], [ProxyProtocol] for proxies.
// An [Authorizer] looks at a [Handshake] and may return a [Refusal]. A [Handler], which
// [HandlerFunc] or [HandlerFuncs] makes of functions, gets each [Session], which has an [ID],
// and each [Message]; a [Frame] is a message for many sessions. The Err variables and
// [PanicError] are close reasons. [Stats] has [TransportStats], [CoreStats] and [MemoryStats].
//
// # For protocol authors
//
// An application does not need the types whose comments say "for protocol authors".
// A [StreamProtocol] runs over the engine's sockets: it makes a [Codec], which gets a
// [Control]. A [Transport] has sockets of its own: it gets a [Host], and by [Host.Open] a
// [Port] for each of its Links.
package engine

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/cpu"
	"github.com/millrace/millrace/internal/reactor"
)

// Engine serves sessions. New makes one. Its methods are safe for concurrent use. A
// callback must not call methods that are documented as blocking: it would delay the
// other sessions of its core.
type Engine struct {
	cfg   Config
	lim   Limits
	epoch time.Time
	table reactor.Table
	cores []*core
	stats engineStats
	watch watch

	memory    memoryWatch
	admission admission
	refusals  refusalLog
	drops     atomic.Uint64 // messages that a SlowConsumer policy dropped

	admitted atomic.Int64 // sessions counted against MaxSessions
	active   atomic.Int64 // sessions, from accept or Open until OnClose has returned, and refused ones
	robin    atomic.Uint32
	draining atomic.Bool   // no new sessions
	dead     atomic.Bool   // the cores are stopping and no longer consume the rings
	noTimers atomic.Bool   // the ticker sleeps on tick
	tick     chan struct{} // wakes the ticker; capacity 1
	misused  atomic.Bool   // a wrong call by the application was logged

	mu        sync.Mutex // guards the fields below
	made      bool
	started   bool
	lent      bool  // GOMAXPROCS was raised
	err       error // of the Config, or of making the cores; permanent
	listenErr error // the first error of Listen since Listen last succeeded
	acceptor  *reactor.Loop
	listeners []*Listener
	closing   bool
	idle      *sync.Cond    // signalled when active may have become 0
	stop      chan struct{} // closed when the cores must stop
	done      chan struct{} // closed when everything has stopped
	closeErr  error         // written before done is closed
	running   sync.WaitGroup
}

// New returns an engine that has not started. The first call of Listen, Dial, Start or
// Serve reports an invalid Config.
func New(cfg Config) *Engine {
	e := &Engine{epoch: time.Now(), tick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	e.err = cfg.Validate()
	e.cfg = cfg.withDefaults()
	e.lim = e.cfg.limits()
	e.lim.engine = e
	e.idle = sync.NewCond(&e.mu)
	e.memory.init(e)
	return e
}

// make creates the cores and the acceptor. With e.mu held.
func (e *Engine) make() error {
	if e.err != nil || e.made {
		return e.err
	}
	if e.closing {
		return ErrClosed
	}
	e.made = true
	e.acceptor, e.err = reactor.Open(&e.table)
	for i := 0; i < e.cfg.Cores && e.err == nil; i++ {
		var c *core
		if c, e.err = newCore(e, i); e.err == nil {
			e.cores = append(e.cores, c)
		}
	}
	return e.err
}

// Start starts the cores. Serve and Dial call it; a second call does nothing. If Listen
// has failed and there is no listener, Start returns Listen's first error, so a program
// may ignore the error of Listen. A later Listen that succeeds clears it. Start does
// not wait for connections.
//
// While the engine runs and has listened, GOMAXPROCS is higher by the number of its
// threads that poll: they sleep in system calls, and the scheduler would count them as
// running. With several engines in a process the largest number counts. After the last
// engine has closed, GOMAXPROCS is restored, and the runtime's automatic updates if they
// were on. An engine that only dials does not change it; with Inline dispatch its loops
// wait in Go's own poller on Linux.
func (e *Engine) Start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.start()
}

func (e *Engine) start() error {
	if err := e.make(); err != nil {
		return err
	}
	if e.closing {
		return ErrClosed
	}
	if e.started {
		return nil
	}
	if e.listenErr != nil && !e.listening() {
		return e.listenErr
	}
	e.started = true
	e.lend()
	e.running.Add(2)
	go runAcceptor(e, !e.lent)
	go runTicker(e)
	for _, c := range e.cores {
		c.parked = c.inline && !e.lent
		c.start()
	}
	e.memory.start()
	if e.cfg.Dispatch == Workers {
		e.running.Add(1)
		go runWatch(e)
	}
	return nil
}

// lend raises GOMAXPROCS once the engine runs and has a listener. With e.mu held.
func (e *Engine) lend() {
	if e.started && !e.lent && len(e.listeners) > 0 {
		e.lent = true
		cpu.Lend(e.sleepers())
	}
}

// sleepers returns how many of the engine's goroutines often sleep in system calls: one
// thread a core, two if the reader always reads, and the acceptor.
func (e *Engine) sleepers() int {
	n := len(e.cores)
	if c := e.cores[0]; !c.inline && c.shared == nil {
		n *= 2
	}
	return n + 1
}

// Serve starts the engine and serves until ctx ends; then it shuts down within
// Config.ShutdownTimeout. It blocks until that is done. It returns nil after a clean
// shutdown, and Shutdown's error if sessions were cut. It returns an error of Start,
// which may be Listen's, at once, and ErrClosed if Shutdown or Close was called.
func (e *Engine) Serve(ctx context.Context) error {
	if err := e.Start(); err != nil {
		_ = e.Close()
		return err
	}
	select {
	case <-e.done:
		return ErrClosed
	case <-ctx.Done():
	}
	if e.cfg.ShutdownTimeout == 0 {
		return e.Close()
	}
	limit, cancel := context.WithTimeout(context.Background(), e.cfg.ShutdownTimeout)
	defer cancel()
	return e.Shutdown(limit)
}

// cutGrace is how long Shutdown waits, after its context has ended, for OnClose of the
// sessions that it cuts.
const cutGrace = 250 * time.Millisecond

// Shutdown ends the engine gracefully: it stops accepting, lets received messages be
// handled and held replies be sent, ends every session with ErrShutdown, and waits. If
// ctx ends first, the remaining sessions are cut as by Close; the error gives their
// number and wraps ctx's. If callbacks are still running 250 ms later, the error is
// also ErrStillRunning, and the engine continues to close in the background. Shutdown
// waits for callbacks, so from a callback it returns only after ctx has ended.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.stopAccepting()
	e.mu.Lock()
	started := e.started && !e.closing
	e.mu.Unlock()
	if started {
		for _, c := range e.cores {
			_ = c.loop.Trigger(shutdownTask, c)
		}
	}
	unwatch := context.AfterFunc(ctx, e.wakeIdle)
	e.mu.Lock()
	for started && e.active.Load() > 0 && ctx.Err() == nil && !e.closing {
		e.idle.Wait()
	}
	left := e.active.Load()
	e.mu.Unlock()
	unwatch()
	var cut error
	if err := ctx.Err(); err != nil && left > 0 {
		cut = fmt.Errorf("engine: shutdown cut %d sessions: %w", left, err)
	}
	e.beginClose()
	select {
	case <-e.done:
		return errors.Join(cut, e.closeErr)
	case <-ctx.Done():
	}
	err := e.awaitClosed(cutGrace)
	if err != nil && e.active.Load() == 0 {
		err = e.awaitClosed(DefaultShutdownTimeout) // no callback runs: wait for the engine's own goroutines
	}
	return errors.Join(cut, err)
}

// shutdownTask ends the sessions of a core after their messages.
func shutdownTask(arg any) error {
	c := arg.(*core)
	c.byRing = true // else a slow callback of one would delay the others
	c.slots.all(func(s *Session) bool {
		s.conn.drain()
		return true
	})
	return nil
}

// Close drops every session at once (OnClose gets ErrClosed) and waits for running
// callbacks and the engine's goroutines. It blocks for at most Config.ShutdownTimeout,
// or DefaultShutdownTimeout if that is negative. Then it returns ErrStillRunning, and
// the engine continues to close in the background. Close waits for callbacks, so from
// a callback it returns only after that time. Later calls wait likewise.
func (e *Engine) Close() error {
	e.beginClose()
	limit := e.cfg.ShutdownTimeout
	setDuration(&limit, DefaultShutdownTimeout)
	return e.awaitClosed(limit)
}

// awaitClosed waits until the engine has closed, for at most limit.
func (e *Engine) awaitClosed(limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-e.done:
		return e.closeErr
	case <-timer.C:
		return ErrStillRunning
	}
}

// beginClose starts to close everything, once. A goroutine of its own waits for the
// callbacks, because the caller may be a callback.
func (e *Engine) beginClose() {
	e.stopAccepting()
	e.mu.Lock()
	first := !e.closing
	e.closing = true
	e.idle.Broadcast()
	e.mu.Unlock()
	switch {
	case !first:
	case e.started:
		go e.finishClose()
	default:
		e.closeErr = e.closeUnstarted()
		close(e.done)
	}
}

// closeUnstarted closes an engine without goroutines of its own.
func (e *Engine) closeUnstarted() error {
	e.dead.Store(true)
	for s := range e.all() {
		s.conn.close(ErrClosed, true) // a transport's; OnClose is not called any more
	}
	e.closeListeners()
	memory.add(-sessionMemory * int(e.active.Load())) // no consumer will end them
	for _, c := range e.cores {
		_ = c.loop.Close()
	}
	if e.acceptor != nil {
		return e.acceptor.Close()
	}
	return nil
}

// finishClose drops every session and stops the engine's goroutines.
func (e *Engine) finishClose() {
	defer close(e.done)
	e.abortAll()
	e.closeListeners()
	e.dead.Store(true)
	close(e.stop)
	e.watch.Wake()
	for _, c := range e.cores {
		c.stop()
	}
	_ = e.acceptor.Stop()
	e.running.Wait()
	e.memory.stopped()
	if e.lent {
		cpu.Return(e.sleepers())
	}
}

// abortAll drops every session and waits until OnClose of each has returned.
// Handshakes that were under way may still add sessions, so it checks again.
func (e *Engine) abortAll() {
	for e.active.Load() > 0 {
		for s := range e.all() {
			s.conn.close(ErrClosed, true)
		}
		e.mu.Lock()
		if e.active.Load() > 0 {
			wake := time.AfterFunc(10*time.Millisecond, e.wakeIdle)
			e.idle.Wait()
			wake.Stop()
		}
		e.mu.Unlock()
	}
}

func (e *Engine) wakeIdle() {
	e.mu.Lock()
	e.idle.Broadcast()
	e.mu.Unlock()
}

// sessionGone uncounts a session and, after the last one, wakes Shutdown and Close.
func (e *Engine) sessionGone() {
	memory.add(-sessionMemory)
	if e.active.Add(-1) == 0 && e.draining.Load() {
		go e.wakeIdle() // on a goroutine of its own: the caller may be a loop
	}
}

// nextCore assigns sessions to the cores in turn.
func (e *Engine) nextCore() *core {
	return e.cores[int(e.robin.Add(1)-1)%len(e.cores)]
}

// Session returns the open or closing session with that ID, or nil.
func (e *Engine) Session(id ID) *Session {
	if i := id.core(); i < len(e.cores) {
		if s := e.cores[i].slots.get(id); s != nil && s.visible() {
			return s
		}
	}
	return nil
}

// Sessions iterates over the sessions that are open or closing. Sessions that begin
// or end meanwhile may be missed or seen.
func (e *Engine) Sessions() iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for s := range e.all() {
			if s.visible() && !yield(s) {
				return
			}
		}
	}
}

// all iterates over every session, including those in their handshake.
func (e *Engine) all() iter.Seq[*Session] {
	return func(yield func(*Session) bool) {
		for _, c := range e.cores {
			if !c.slots.all(yield) {
				return
			}
		}
	}
}

// misuse logs the first wrong call by the application.
func (e *Engine) misuse(s *Session, what string) {
	if e.misused.CompareAndSwap(false, true) {
		e.cfg.Logger.Warn("engine: misuse", "call", what, "session", s.id, "transport", s.Transport())
	}
}

// Config returns the engine's configuration with every default filled in.
func (e *Engine) Config() Config { return e.cfg }

// listening reports whether a listener accepts. With e.mu held.
func (e *Engine) listening() bool {
	return slices.ContainsFunc(e.listeners, func(l *Listener) bool { return !l.closed.Load() })
}

// listenFailed stores the first error of Listen for Start, and returns it with its
// context. With e.mu held.
func (e *Engine) listenFailed(addr string, err error) error {
	err = fmt.Errorf("engine: listen %s: %w", addr, err)
	if e.listenErr == nil {
		e.listenErr = err
	}
	return err
}
