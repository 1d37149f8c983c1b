package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/millrace/millrace/bench"
)

type blockingSettings struct {
	rounds, sessions, every, probes int
	rate, sleeperRate               float64
	sleep, duration                 time.Duration
}

const blockingSessions = 4 // whose handler sleeps

func setupBlocking(fs *flag.FlagSet) (check func() error, run body) {
	var set blockingSettings
	fs.IntVar(&set.rounds, "rounds", 5, "rounds: without and with sleeps in turn, each with a new server")
	fs.IntVar(&set.sessions, "sessions", 20, "sessions on the other cores")
	fs.Float64Var(&set.rate, "rate", 2000, "messages a second of these in all, in an open loop")
	fs.Float64Var(&set.sleeperRate, "sleeper-rate", 2000, "messages a second, at most, of the sessions whose handler sleeps")
	fs.IntVar(&set.every, "every", 1000, "the handler sleeps in one of so many messages")
	fs.DurationVar(&set.sleep, "sleep", 100*time.Millisecond, "how long it sleeps")
	fs.IntVar(&set.probes, "probes", 5, "observations of each kind on the core of the sleeping handler")
	fs.DurationVar(&set.duration, "duration", 4*time.Second, "measured time a run")
	check = func() error {
		return errors.Join(between("rounds", set.rounds, 1, 50), between("sessions", set.sessions, 1, 1000),
			between("rate", int(set.rate), 10, 100_000), between("sleeper-rate", int(set.sleeperRate), 10, 10_000),
			between("every", set.every, blockingSessions, 1_000_000), between("sleep", set.sleep, 20*time.Millisecond, maxSleep),
			between("probes", set.probes, 1, 50), between("duration", set.duration, 10*time.Millisecond, time.Minute))
	}
	return check, func(ctx context.Context, log *progress) (*report, error) { return blocking(ctx, log, set) }
}

var blockingContestants = []contestant{
	{name: "inline", transport: "tcp", inline: true},
	{name: "workers", transport: "tcp"},
}

// Names of the columns, which the goals use too.
const (
	columnP99      = "p99 to without"
	columnFull     = "rest of a full socket"
	columnBurst    = "burst read"
	columnOwn      = "own reply before"
	columnOther    = "other's reply before"
	columnDeadline = "deadline late"
)

func blocking(ctx context.Context, log *progress, set blockingSettings) (*report, error) {
	r := &report{}
	far := r.addTable(fmt.Sprintf("%d sessions on other cores, %.0f messages/s, beside %d whose handler sleeps %v in one of %d messages",
		set.sessions, set.rate, blockingSessions, set.sleep, set.every),
		column{"messages", perSecond}, column{"p50", nanos}, column{"p99", nanos}, column{"p99.9", nanos}, column{columnP99, plainRatio},
		column{"sleeps", count}, column{"client CPUs", count})
	near := r.addTable(fmt.Sprintf("the core of the sleeping handler, medians of %d in a round", set.probes),
		column{columnFull, nanos}, column{columnBurst, nanos}, column{columnOwn, nanos},
		column{columnOther, nanos}, column{columnDeadline, nanos})
	for _, c := range blockingContestants {
		for _, name := range []string{c.name + ", without", c.name + ", with"} {
			far.addRow(name)
			near.addRow(name)
		}
	}
	for round := range set.rounds {
		log.printf("round %d of %d", round+1, set.rounds)
		for i, c := range blockingContestants {
			var base float64
			for j, sleep := range []time.Duration{0, set.sleep} {
				k := 2*i + j
				v, err := blockingRun(ctx, c, set, sleep)
				if err != nil {
					return r, fmt.Errorf("%s: %w", far.Rows[k].Name, err)
				}
				l := v.load
				if j == 0 {
					base = float64(l.LatencyP99)
				}
				far.Rows[k].add(l.Rate, float64(l.LatencyP50), float64(l.LatencyP99), float64(l.LatencyP999), float64(l.LatencyP99)/base,
					float64(v.sleeps), l.ClientCPUs)
				p := v.probes
				near.Rows[k].add(middle(p.full), middle(p.burst), middle(p.own), middle(p.other), middle(p.deadline))
			}
		}
	}
	blockingGoals(r, far, near)
	r.note("latency counts from the intended time of each message; a message that can't be sent waits")
	r.note("rest of a full socket: %d KiB wait for a session; the time until all are there, from when it reads", probeFill>>10)
	r.note("burst read: a session sends %d KiB of requests; the time until its system has accepted them", probeBurst*probeEach>>10)
	r.note("own reply before: a request and the sleep's in one write of one session; the time until the first reply")
	r.note("other's reply before: a request, and then the sleep's of another session, wait for a sleep of %v, in each row; "+
		"the time from its end to the first reply", probeShort)
	r.note("deadline late: time from HandshakeTimeout to the end of a connection without a handshake; "+
		"up to %v by the resolution of deadlines", deadlineTicks)
	return r, nil
}

// middle is the median of times, as a figure of a table.
func middle(times []time.Duration) float64 {
	values := make([]float64, len(times))
	for i, d := range times {
		values[i] = float64(d)
	}
	return median(values)
}

// Bounds of the goals. Those of the other cores and of the deadline leave room for noise.
const (
	blockingP99 = 1.1
	blockingMay = time.Millisecond
)

// blockingGoals judge the workers. An inline handler must not block.
func blockingGoals(r *report, far, near *table) {
	without, with := len(far.Rows)-2, len(far.Rows)-1
	column := func(t *table, name string) int {
		return slices.IndexFunc(t.Columns, func(c column) bool { return c.Name == name })
	}
	ratio := median(far.Rows[with].Cells[column(far, columnP99)])
	r.addGoal(fmt.Sprintf("workers: p99 on other cores at most %gx of that without", blockingP99),
		human(ratio, plainRatio), ratio <= blockingP99)
	for _, name := range []string{columnFull, columnBurst, columnOwn, columnOther} {
		i := column(near, name)
		more := median(near.Rows[with].Cells[i]) - median(near.Rows[without].Cells[i])
		r.addGoal(fmt.Sprintf("workers: %s: at most %v later than without", name, blockingMay), human(more, nanos), more <= float64(blockingMay))
	}
	late := median(near.Rows[with].Cells[column(near, columnDeadline)])
	most := deadlineTicks + blockingMay
	r.addGoal(fmt.Sprintf("workers: %s at most %v", columnDeadline, most), human(late, nanos), late <= float64(most))
}

// blockingValues are the figures of one run.
type blockingValues struct {
	load   *bench.Result // of the sessions on other cores
	sleeps int64         // during the load
	probes probeValues
}

// blockingRun loads a new server. With a sleep of 0 no handler sleeps.
func blockingRun(ctx context.Context, c contestant, set blockingSettings, sleep time.Duration) (v blockingValues, err error) {
	cores := max(2, runtime.NumCPU())
	server, addr, second, err := startTwo(ctx, c.name, serverSettings{
		Transport: c.transport, Inline: c.inline, Cores: cores, Handshake: probeHandshake, SocketBuffer: probeBuffer,
	})
	if err != nil {
		return v, err
	}
	defer func() { err = errors.Join(err, server.stop()) }()
	s := &seats{addr: addr, cores: cores, count: map[int]int{}}
	defer s.close()
	conns, err := s.blocked(ctx, addr, blockingSessions+probeSessions)
	if err != nil {
		return v, err
	}
	if err := s.check(ctx, server); err != nil {
		return v, err
	}
	beside := startSleepers(ctx, conns[:blockingSessions], set.sleeperRate, set.every, sleep)
	defer func() { _ = beside.stop() }() // its error is returned below, unless there was an earlier one
	var clocks [2]time.Duration
	v.load, err = loadServer(ctx, &running{contestant: c, pid: server.pid(), url: "tcp://" + addr.String(), server: server}, bench.Config{
		Sessions: set.sessions, Rate: set.rate, Duration: set.duration, Warmup: set.duration / 4,
		BeforeDial: func(int) error { return s.elsewhere(ctx) },
	}, &clocks)
	if err != nil {
		return v, err
	}
	if err := beside.stop(); err != nil {
		return v, err
	}
	v.sleeps = beside.sleeps.Load()
	p := &probes{seats: s, handshake: second, sleep: sleep, times: set.probes}
	p.use(conns[blockingSessions:])
	v.probes, err = p.run(ctx)
	return v, err
}
