package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	hdr "github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

// Run loads cfg.URL and returns what it measured. It blocks for Warmup,
// Duration and the time that the last replies take (at most 5 s). An error
// means that the load couldn't start or ctx ended; sessions that failed under
// load are counted in the Result, which then proves nothing but that.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	t, err := parseTarget(cfg.URL)
	if err != nil {
		return nil, err
	}
	script, err := newScript(cfg, t.scheme)
	if err != nil {
		return nil, err
	}
	l := &load{cfg: cfg}
	defer l.close()
	for range cfg.Loops {
		if err := l.addLoop(); err != nil {
			return nil, err
		}
	}
	for i := range cfg.Sessions {
		if err := l.addSession(ctx, t, script, i); err != nil {
			return nil, fmt.Errorf("bench: session %d of %d: %w", i+1, cfg.Sessions, err)
		}
	}
	return l.run(ctx)
}

// A load is one Run.
type load struct {
	cfg       Config
	loops     []*loop
	measuring atomic.Bool
	ending    atomic.Bool // no new requests
	stop      atomic.Bool // loops return
}

func (l *load) addLoop() error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("bench: epoll_create: %w", err)
	}
	l.loops = append(l.loops, &loop{
		load:    l,
		epoll:   epoll,
		buffer:  make([]byte, readBufferSize),
		latency: hdr.New(1, maxLatency.Nanoseconds(), 3),
	})
	return nil
}

// addSession connects session i. Sessions begin at places of the script that
// are far from each other.
func (l *load) addSession(ctx context.Context, t target, script *script, i int) error {
	conn, err := dial(ctx, t, l.cfg.Sessions)
	if err != nil {
		return err
	}
	fd, err := detach(conn)
	if err != nil {
		return err
	}
	loop := l.loops[i%len(l.loops)]
	loop.sessions = append(loop.sessions, &session{
		fd: fd, number: i, script: script, inFlight: l.cfg.InFlight,
		start: i * 31 % script.frames,
	})
	return nil
}

// detach takes conn's socket away from Go's own poller, which would be woken
// for each of its events as well.
func detach(conn *net.TCPConn) (fd int, err error) {
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, err
	}
	ctlErr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(ctlErr, err)
}

func (l *load) close() {
	for _, loop := range l.loops {
		for _, s := range loop.sessions {
			unix.Close(s.fd)
		}
		unix.Close(loop.epoll)
	}
}

// run drives the loops through warm-up, measurement and the last replies.
func (l *load) run(ctx context.Context) (*Result, error) {
	var running sync.WaitGroup
	for _, loop := range l.loops {
		running.Go(loop.run)
	}
	defer running.Wait()
	defer l.stop.Store(true)

	if err := sleep(ctx, l.cfg.Warmup); err != nil {
		return nil, err
	}
	if l.cfg.AtStart != nil {
		l.cfg.AtStart()
	}
	l.measuring.Store(true)
	start, before := time.Now(), l.replies()
	err := sleep(ctx, l.cfg.Duration)
	elapsed, after := time.Since(start), l.replies()
	l.measuring.Store(false)
	if l.cfg.AtEnd != nil {
		l.cfg.AtEnd()
	}
	if err != nil {
		return nil, err
	}
	l.ending.Store(true)
	finished := make(chan struct{})
	go func() {
		running.Wait()
		close(finished)
	}()
	select {
	case <-finished:
	case <-time.After(drainTimeout):
		l.stop.Store(true)
		<-finished
	}
	return l.result(after-before, elapsed), nil
}

func (l *load) replies() (sum int64) {
	for _, loop := range l.loops {
		sum += loop.replies.Load()
	}
	return sum
}

// result is called when the loops have returned.
func (l *load) result(messages int64, elapsed time.Duration) *Result {
	latency := hdr.New(1, maxLatency.Nanoseconds(), 3)
	r := &Result{
		URL: l.cfg.URL, Sessions: l.cfg.Sessions, InFlight: l.cfg.InFlight, Size: l.cfg.Size,
		Duration: elapsed, Messages: messages, Rate: float64(messages) / elapsed.Seconds(),
		Verified: l.replies(),
	}
	for _, loop := range l.loops {
		latency.Merge(loop.latency)
		for _, s := range loop.sessions {
			if s.failed == nil && s.outstanding() {
				s.failed = s.lost(errors.New("replies are missing"))
			}
			if s.failed != nil {
				r.Errors++
				if r.FirstError == "" {
					r.FirstError = s.failed.Error()
				}
			}
		}
	}
	r.Samples = latency.TotalCount()
	r.LatencyMean = time.Duration(latency.Mean())
	r.LatencyP50 = time.Duration(latency.ValueAtQuantile(50))
	r.LatencyP99 = time.Duration(latency.ValueAtQuantile(99))
	return r
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
