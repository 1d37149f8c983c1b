package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	memoryFloor    = 3 << 30   // bytes that must stay available
	socketMemory   = 9 << 10   // bytes of the kernel's for both ends of a session, generously
	pairMemory     = 32 << 20  // bytes for a server and its clients without sessions, generously
	millionGoal    = 1e9       // bytes for a million
	openChunk      = 1000      // sessions that are opened between two looks at the memory
	spare          = 100       // descriptors of a process that are no sessions
	threadsEach    = 24        // of a pair of processes, generously
	maxDescriptors = 20_000    // of a process, even if it may have more
	maxMillion     = 4_000_000 // sessions
)

type millionSettings struct {
	sessions, perProcess, parallel int
	inline                         bool
}

func setupMillion(fs *flag.FlagSet) (check func() error, run body) {
	var set millionSettings
	fs.IntVar(&set.sessions, "sessions", 1_000_000, "TCP sessions in all")
	fs.IntVar(&set.perProcess, "per-process", 0, "sessions a server process; 0 means as many as its descriptors allow, up to 19,900")
	fs.IntVar(&set.parallel, "parallel", 2, "client processes that work at the same time")
	fs.BoolVar(&set.inline, "inline", true, "dispatch on the loops; false means rings and workers, which cost memory in every process")
	check = func() error {
		return errors.Join(between("sessions", set.sessions, 1, maxMillion),
			between("per-process", set.perProcess, 0, maxDescriptors-spare), between("parallel", set.parallel, 1, 64))
	}
	return check, func(ctx context.Context, log *progress) (*report, error) { return million(ctx, log, set) }
}

// A pair is a server process with the client process that fills it.
type pair struct {
	server, clients *child
	sessions        int
}

// A crowd is all the pairs of a run.
type crowd struct {
	set    millionSettings
	log    *progress
	pairs  []*pair
	opened atomic.Int64
}

func million(ctx context.Context, log *progress, set millionSettings) (r *report, err error) {
	limits, err := readKernelLimits()
	if err != nil {
		return nil, err
	}
	if set.perProcess == 0 {
		set.perProcess = min(limits.descriptors, maxDescriptors) - spare
	}
	c := &crowd{set: set, log: log}
	if err := c.feasible(limits); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	before, err := availableMemory()
	if err != nil {
		return nil, err
	}
	if err := c.start(ctx); err != nil {
		return nil, err
	}
	return c.measure(ctx, before)
}

func (c *crowd) processes() int { return (c.set.sessions + c.set.perProcess - 1) / c.set.perProcess }

// feasible returns an error if the machine lacks a resource, before the run starts.
func (c *crowd) feasible(l kernelLimits) error {
	available, err := availableMemory()
	if err != nil {
		return err
	}
	n := int64(c.set.sessions)
	need := memoryFloor + n*socketMemory + int64(c.processes())*pairMemory
	switch {
	case c.set.perProcess > l.descriptors-spare:
		return fmt.Errorf("--per-process %d is too much for %d descriptors a process", c.set.perProcess, l.descriptors)
	case available < need:
		return fmt.Errorf("%s of memory are available; %d sessions need about %s, of which %s stay free",
			human(float64(available), byteCount), n, human(float64(need), byteCount), human(memoryFloor, byteCount))
	case int64(l.filesFree) < 2*n:
		return fmt.Errorf("the system may open %d more files (fs.file-max), and %d sessions need %d", l.filesFree, n, 2*n)
	case l.ports < sourceShare:
		return fmt.Errorf("the system has %d ephemeral ports (net.ipv4.ip_local_port_range), and %d are needed", l.ports, sourceShare)
	case l.processRoom < threadsEach*c.processes():
		return fmt.Errorf("the system can create %d more threads (kernel.threads-max, pid_max), and %d may be needed",
			l.processRoom, threadsEach*c.processes())
	case l.listenLength < batch:
		return fmt.Errorf("net.core.somaxconn is %d, and %d connections come at once", l.listenLength, batch)
	}
	c.log.printf("%d sessions over %d server and %d client processes; %s of memory available",
		n, c.processes(), c.processes(), human(float64(available), byteCount))
	return nil
}

// start starts all processes, still without sessions. Each pair has an address
// for its server and further ones for its clients, so that ephemeral ports
// suffice.
func (c *crowd) start(ctx context.Context) error {
	sources := (c.set.perProcess + sourceShare - 1) / sourceShare
	for left, i := c.set.sessions, 0; left > 0; i++ {
		own := loopbacks(i*(sources+1), sources+1)
		p := &pair{sessions: min(left, c.set.perProcess)}
		c.pairs = append(c.pairs, p)
		var target netip.AddrPort
		var err error
		p.server, target, err = startServer(ctx, fmt.Sprintf("server %d", i+1), serverSettings{
			Addr: netip.AddrPortFrom(own[0], 0).String(), Transport: "tcp", Inline: c.set.inline, Lean: true,
		})
		if err != nil {
			return err
		}
		p.clients, _, err = startChild[int](ctx, fmt.Sprintf("client process %d", i+1), "fleet", fleetSettings{
			Target: target, Sources: own[1:], First: uint32(i * c.set.perProcess),
		})
		if err != nil {
			return err
		}
		left -= p.sessions
	}
	return nil
}

// measure fills the servers, measures, verifies and empties them.
func (c *crowd) measure(ctx context.Context, availableBefore int64) (*report, error) {
	r := &report{}
	t := r.addTable("a crowd of TCP sessions: the sum over all server processes", column{"sessions", count},
		column{"processes", count}, column{"RSS", byteCount}, column{"PSS", byteCount}, column{"RSS, anonymous", byteCount},
		column{"heap", byteCount}, column{"took", nanos})
	start := time.Now()
	step := func(name string, do func() error, collect bool) (memoryFigures, error) {
		began := time.Now()
		if err := do(); err != nil {
			return memoryFigures{}, fmt.Errorf("%s: %w", name, err)
		}
		took := time.Since(began)
		sum, err := c.memory(ctx, collect)
		if err == nil {
			t.addRow(name).add(float64(c.opened.Load()), float64(len(c.pairs)), float64(sum.Process.RSS),
				float64(sum.Process.PSS), float64(sum.Process.Anon), float64(sum.Heap), float64(took))
			c.log.printf("%s: server RSS %s", name, human(float64(sum.Process.RSS), byteCount))
		}
		return sum, err
	}
	none, err := step("no sessions", func() error { return nil }, true)
	if err != nil {
		return r, err
	}
	if _, err := step("all opened, each verified", func() error { return c.fill(ctx) }, false); err != nil {
		return r, err
	}
	full, err := step("the same, after forced collections", func() error { return c.each(ctx, c.confirm) }, true)
	if err != nil {
		return r, err
	}
	availableFull, err := availableMemory()
	if err != nil {
		return r, err
	}
	if _, err := step("all asked once more, each verified", func() error { return c.each(ctx, c.probe) }, false); err != nil {
		return r, err
	}
	if _, err := step("all closed, after forced collections", func() error { return c.each(ctx, c.empty) }, true); err != nil {
		return r, err
	}
	c.conclude(r, none, full, availableBefore-availableFull, time.Since(start))
	return r, nil
}

func (c *crowd) conclude(r *report, none, full memoryFigures, machine int64, took time.Duration) {
	n := float64(c.set.sessions)
	total := float64(full.Process.PSS)
	r.addGoal(fmt.Sprintf("memory of all servers (PSS) at most 1 GB for 1,000,000 sessions (%d here)", c.set.sessions),
		fmt.Sprintf("%.0f MB", total/1e6), total <= millionGoal*n/1e6)
	r.note("a session: %s of RSS, %s of heap; the servers without any: %s of RSS",
		human(float64(full.Process.RSS-none.Process.RSS)/n, byteCount),
		human(float64(full.Heap-none.Heap)/n, byteCount), human(float64(none.Process.RSS), byteCount))
	r.note("the machine spent %s a session on both ends: both processes and the kernel's sockets", human(float64(machine)/n, byteCount))
	r.note("RSS, %s in all, counts the program's own pages once for each process, though they share them; PSS counts them once",
		human(float64(full.Process.RSS), byteCount))
	r.note("%v in all", took.Round(time.Second))
}

// each runs do for all pairs, in parallel up to the limit, and returns the first
// failure, which stops the others.
func (c *crowd) each(ctx context.Context, do func(ctx context.Context, p *pair) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	turn := make(chan *pair)
	var running sync.WaitGroup
	for range c.set.parallel {
		running.Go(func() {
			for p := range turn {
				if err := do(ctx, p); err != nil {
					cancel(err)
				}
			}
		})
	}
	for _, p := range c.pairs {
		if ctx.Err() != nil {
			break
		}
		turn <- p
	}
	close(turn)
	running.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// fill opens all sessions, and logs their number each second.
func (c *crowd) fill(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var telling sync.WaitGroup
	defer telling.Wait()
	defer cancel()
	telling.Go(func() {
		for last := int64(0); ; {
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
			now := c.opened.Load()
			available, err := availableMemory()
			if err != nil {
				return // the openers look at it too
			}
			c.log.printf("%d sessions, %d in the last second, %s of memory available", now, now-last, human(float64(available), byteCount))
			last = now
		}
	})
	return c.each(ctx, c.open)
}

// open fills one server.
func (c *crowd) open(ctx context.Context, p *pair) error {
	for have := 0; have < p.sessions; {
		available, err := availableMemory()
		if err != nil {
			return err
		}
		if available < memoryFloor {
			return fmt.Errorf("stopped at %d sessions: only %s of memory are available, and %s must stay so",
				c.opened.Load(), human(float64(available), byteCount), human(memoryFloor, byteCount))
		}
		want := min(openChunk, p.sessions-have)
		now, err := ask[int](ctx, p.clients, "open", want)
		if err != nil {
			return err
		}
		c.opened.Add(int64(now - have))
		have = now
	}
	return nil
}

// confirm checks that the server sees the sessions that its clients opened.
func (c *crowd) confirm(ctx context.Context, p *pair) error {
	return awaitSessions(ctx, p.server, p.sessions)
}

// probe asks every session of one server once more.
func (c *crowd) probe(ctx context.Context, p *pair) error {
	for from := 0; from < p.sessions; from += openChunk {
		if _, err := ask[int](ctx, p.clients, "probe", fleetArgs{from, from + openChunk}); err != nil {
			return err
		}
	}
	return nil
}

// empty closes the clients of one server, which must notice each of them.
func (c *crowd) empty(ctx context.Context, p *pair) error {
	if _, err := ask[int](ctx, p.clients, "close", struct{}{}); err != nil {
		return err
	}
	c.opened.Add(int64(-p.sessions))
	return awaitSessions(ctx, p.server, 0)
}

// memory sums the servers' figures.
func (c *crowd) memory(ctx context.Context, collect bool) (sum memoryFigures, err error) {
	for _, p := range c.pairs {
		m, err := ask[memoryFigures](ctx, p.server, "memory", memoryArgs{Collect: collect})
		if err != nil {
			return sum, err
		}
		sum.Heap += m.Heap
		sum.Stacks += m.Stacks
		sum.Process.RSS += m.Process.RSS
		sum.Process.PSS += m.Process.PSS
		sum.Process.Anon += m.Process.Anon
	}
	return sum, nil
}

// stop ends the clients first, because their resets leave no TIME_WAIT, and then the
// servers.
func (c *crowd) stop() error {
	var mu sync.Mutex // guards errs
	var errs []error
	stopAll := func(which func(*pair) *child) {
		var running sync.WaitGroup
		for _, p := range c.pairs {
			if proc := which(p); proc != nil {
				running.Go(func() {
					err := proc.stop()
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, err)
				})
			}
		}
		running.Wait()
	}
	stopAll(func(p *pair) *child { return p.clients })
	stopAll(func(p *pair) *child { return p.server })
	return errors.Join(errs...)
}
