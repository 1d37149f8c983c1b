package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Run loads cfg.URL and returns the measured figures. It blocks for RampUp, Warmup,
// Duration and the time that the last replies take (at most 5 s). An error
// means that the load couldn't start (a *DialError if a session couldn't
// connect) or ctx ended; in the latter case, once all have connected, the Result
// has the figures until then. Sessions that failed under load are
// counted in the Result; its other figures are then not valid.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	t, err := parseTarget(cfg.URL)
	if err != nil {
		return nil, err
	}
	script, err := newScript(cfg, t)
	if err != nil {
		return nil, err
	}
	verify, err := clientTLS(&cfg, t)
	if err != nil {
		return nil, err
	}
	l := &load{cfg: cfg, script: script}
	l.from.Store(math.MaxInt64)
	l.to.Store(math.MaxInt64)
	defer l.close()
	if err := l.connect(ctx, t, verify); err != nil {
		return nil, err
	}
	return l.run(ctx)
}

// A load is one Run.
type load struct {
	cfg      Config
	script   *script
	loops    []*loop
	carriers []*carrier
	sessions []*session
	tallies  []*tally
	epoch    time.Time // when its clock, and the load, began

	from, to atomic.Int64 // the measured time, on the load's clock; at first never
	ending   atomic.Bool  // no new requests
	stop     atomic.Bool  // loops return
	failures atomic.Int64 // sessions
}

// now is the load's clock, in nanoseconds.
func (l *load) now() int64 { return int64(time.Since(l.epoch)) }

func (l *load) connect(ctx context.Context, t target, verify *tls.Config) error {
	for range l.cfg.Loops {
		if l.cfg.Separate || t.scheme == "quic" {
			break
		}
		if err := l.addLoop(); err != nil {
			return err
		}
	}
	for i := range l.cfg.Sessions {
		if l.cfg.BeforeDial != nil {
			if err := l.cfg.BeforeDial(i); err != nil {
				return fmt.Errorf("bench: before session %d: %w", i+1, err)
			}
		}
		dialing, cancel := context.WithTimeout(ctx, dialTimeout)
		var err error
		if l.cfg.Separate || t.scheme == "quic" {
			err = l.addCarrier(dialing, t, verify)
		} else {
			err = l.addSocket(dialing, t, verify, i)
		}
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return &DialError{i + 1, l.cfg.Sessions, err}
		}
	}
	return nil
}

func (l *load) addLoop() error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("bench: epoll_create: %w", err)
	}
	loop := &loop{
		load: l, epoll: epoll, tally: tally{latency: newLatency()},
		buffer: make([]byte, readBufferSize), plain: make([]byte, plainBufferSize),
	}
	l.loops = append(l.loops, loop)
	l.tallies = append(l.tallies, &loop.tally)
	return nil
}

// addSession makes the next session. Sessions begin at places of the script
// that are far from each other.
func (l *load) addSession() *session {
	i, n := len(l.sessions), l.cfg.Sessions*l.cfg.Streams
	from := l.cfg.RampUp * time.Duration(i) / time.Duration(n)
	s := &session{
		number: i, script: l.script, inFlight: l.cfg.InFlight,
		start: i * 31 % l.script.frames, startAt: int64(from), timer: -1,
	}
	if l.cfg.Rate > 0 {
		s.schedule = newSchedule(&l.cfg, i, n, from)
	}
	l.sessions = append(l.sessions, s)
	return s
}

func (l *load) addSocket(ctx context.Context, t target, verify *tls.Config, i int) error {
	fd, secure, err := dial(ctx, t, l.cfg.Sessions, verify)
	if err != nil {
		return err
	}
	s := l.addSession()
	s.fd, s.secure = fd, secure
	loop := l.loops[i%len(l.loops)]
	loop.sessions = append(loop.sessions, s)
	return nil
}

// addCarrier connects a session, or all sessions of a QUIC connection, with goroutines of
// its own.
func (l *load) addCarrier(ctx context.Context, t target, verify *tls.Config) error {
	var c *carrier
	var err error
	if t.scheme == "quic" {
		c, err = dialQUIC(ctx, l, t, verify)
		err = explainQUIC(err)
	} else {
		c, err = dialSeparate(ctx, l, t, verify)
	}
	if err != nil {
		return err
	}
	l.carry(c)
	return nil
}

// carry makes the sessions of c.
func (l *load) carry(c *carrier) {
	for _, p := range c.pumps {
		p.s = l.addSession()
	}
	l.carriers = append(l.carriers, c)
	l.tallies = append(l.tallies, &c.tally)
}

func (l *load) close() {
	for _, loop := range l.loops {
		for _, s := range loop.sessions {
			unix.Close(s.fd)
		}
		unix.Close(loop.epoll)
	}
	for _, c := range l.carriers {
		c.close()
	}
}

// start starts the threads and goroutines of the load.
func (l *load) start() *sync.WaitGroup {
	var running sync.WaitGroup
	l.epoch = time.Now()
	for _, loop := range l.loops {
		running.Go(loop.run)
	}
	for _, c := range l.carriers {
		for _, p := range c.pumps {
			p.start(&running)
		}
	}
	return &running
}

// halt ends all running goroutines, including those that wait.
func (l *load) halt(running *sync.WaitGroup) {
	l.stop.Store(true)
	for _, c := range l.carriers {
		c.close()
	}
	running.Wait()
}

// run drives the load through ramp-up, warm-up, measurement and the last
// replies.
func (l *load) run(ctx context.Context) (*Result, error) {
	started := time.Now()
	running := l.start()
	w := watch{load: l, ctx: ctx}
	w.wait("ramp-up", l.cfg.RampUp)
	w.wait("warm-up", max(l.cfg.Warmup, 0))
	if l.cfg.AtStart != nil && ctx.Err() == nil {
		l.cfg.AtStart()
	}
	from, cpu := l.now(), clientCPU()
	l.from.Store(from)
	messages, bytes := l.counts()
	series := w.wait("measuring", l.cfg.Duration)
	to := l.now()
	cpu = clientCPU() - cpu
	l.to.Store(to)
	messagesEnd, bytesEnd := l.counts()
	if l.cfg.AtEnd != nil {
		l.cfg.AtEnd()
	}
	l.ending.Store(true)
	if ctx.Err() == nil {
		finished := make(chan struct{})
		go func() {
			running.Wait()
			close(finished)
		}()
		select {
		case <-finished:
		case <-ctx.Done():
		case <-time.After(drainTimeout):
		}
	}
	l.halt(running)
	r := l.result(ctx.Err() != nil)
	r.Started, r.Duration, r.Series = started, time.Duration(to-from), series
	r.Messages, r.Bytes = messagesEnd-messages, bytesEnd-bytes
	r.Rate = float64(r.Messages) / max(r.Duration, 1).Seconds()
	r.ClientCPUs = float64(cpu) / float64(max(r.Duration, 1))
	return r, ctx.Err()
}

// clientCPU returns the CPU time that this process has used, in user and kernel mode.
func clientCPU() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t) // Linux has this clock for each process
	return time.Duration(t.Nano())
}

// counts are the replies verified so far, and their bytes.
func (l *load) counts() (replies, bytes int64) {
	for _, t := range l.tallies {
		replies += t.replies.Load()
		bytes += t.bytes.Load()
	}
	return replies, bytes
}

// result is called when the loops have returned. Replies that an interrupted
// run didn't wait for aren't missing.
func (l *load) result(interrupted bool) *Result {
	total := tally{latency: newLatency()}
	r := &Result{
		URL: l.cfg.URL, Sessions: l.cfg.Sessions, Streams: l.cfg.Streams, InFlight: l.cfg.InFlight,
		Size: l.cfg.Size, Sizes: l.cfg.Sizes, OneWay: l.cfg.OneWay, Raw: l.cfg.Raw, Separate: l.cfg.Separate,
		RampUp: l.cfg.RampUp, Warmup: max(l.cfg.Warmup, 0), TargetRate: l.cfg.Rate, Poisson: l.cfg.Poisson,
		Interrupted: interrupted, Faults: map[string]int{},
	}
	if len(r.Sizes) > 0 {
		r.Size = 0
	}
	r.Verified, _ = l.counts()
	for _, t := range l.tallies {
		total.latency.Merge(t.latency)
	}
	for _, s := range l.sessions {
		if s.failed == nil && s.outstanding() && !interrupted {
			s.failed = s.missing()
		}
		if s.failed != nil {
			r.Errors++
			r.Faults[s.failed.kind]++
			if r.FirstError == "" {
				r.FirstError = s.failed.Error()
			}
		}
		r.Unsent += total.addUnsent(s, l.from.Load(), l.to.Load())
	}
	r.setLatency(total.latency)
	return r
}
