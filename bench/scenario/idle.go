package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The goals of an idle session's heap, in bytes, and how many sessions each
// transport has by default: those that cost more have fewer.
var idleGoals = map[string]struct {
	heap     float64
	sessions int
}{
	"tcp":  {450, 10_000},
	"ws":   {500, 10_000},
	"tls":  {8 << 10, 4_000},
	"quic": {40 << 10, 1_000},
}

const (
	maxFleet     = 19_000 // of the 20,000 descriptors that a process may have
	warmSessions = 64     // opened and closed before the baseline is taken
)

// idleClients open sessions, each verified by one request, and hold them.
type idleClients interface {
	open(n int) error
	close()
}

var (
	_ idleClients = (*fleet)(nil)
	_ idleClients = (*tlsClients)(nil)
	_ idleClients = (*quicClients)(nil)
)

func setupIdle(fs *flag.FlagSet) (check func() error, run body) {
	transports := fs.String("transports", "tcp,ws,tls,quic", "comma-separated `LIST` of them")
	sessions := fs.Int("sessions", 0, "sessions; 0 means 10,000 for tcp and ws, 4,000 for tls, 1,000 for quic")
	rounds := fs.Int("rounds", 3, "rounds, transports in turn, each with a new server")
	inline := fs.Bool("inline", false, "dispatch on the loops instead of workers")
	var names []string
	check = func() error {
		names = strings.Split(*transports, ",")
		for _, name := range names {
			if _, ok := idleGoals[name]; !ok {
				return fmt.Errorf("--transports: there is no %q", name)
			}
		}
		if err := between("sessions", *sessions, 0, maxFleet); err != nil {
			return err
		}
		return between("rounds", *rounds, 1, 50)
	}
	return check, func(ctx context.Context, log *progress) (*report, error) {
		return idle(ctx, log, names, *sessions, *rounds, *inline)
	}
}

func idle(ctx context.Context, log *progress, names []string, sessions, rounds int, inline bool) (*report, error) {
	r := &report{}
	t := r.addTable("memory of an idle session, after forced collections",
		column{"sessions", count}, column{"heap", byteCount}, column{"stacks", byteCount},
		column{"RSS", byteCount}, column{"objects", count}, column{"RSS with none", byteCount},
		column{"heap left after all closed", byteCount})
	rows := map[string]*row{}
	for _, name := range names {
		rows[name] = t.addRow(name)
	}
	for round := range rounds {
		for _, name := range names {
			n := sessions
			if n == 0 {
				n = idleGoals[name].sessions
			}
			log.printf("round %d of %d: %d sessions of %s", round+1, rounds, n, name)
			values, err := idleRound(ctx, name, n, inline)
			if err != nil {
				return r, fmt.Errorf("%s: %w", name, err)
			}
			rows[name].add(values...)
		}
	}
	for _, name := range names {
		heap, limit := median(rows[name].Cells[1]), idleGoals[name].heap
		r.addGoal(fmt.Sprintf("heap of an idle %s session at most %s", name, human(limit, byteCount)), human(heap, byteCount), heap <= limit)
	}
	r.note("every session was opened, asked once and its reply verified, before it idles; clients are in another process")
	return r, nil
}

// idleRound measures one transport with a server of its own, and returns a
// value for each column.
func idleRound(ctx context.Context, transport string, n int, inline bool) (values []float64, err error) {
	c, addr, err := startServer(ctx, transport+" server", serverSettings{Transport: transport, Inline: inline})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	clients := newIdleClients(ctx, transport, addr)
	defer clients.close()
	// The first sessions make the server's pools and tables.
	if err := clients.open(min(warmSessions, n)); err != nil {
		return nil, err
	}
	clients.close()
	none, err := settledMemory(ctx, c, 0)
	if err != nil {
		return nil, err
	}
	if err := clients.open(n); err != nil {
		return nil, err
	}
	full, err := settledMemory(ctx, c, n)
	if err != nil {
		return nil, err
	}
	clients.close()
	left, err := settledMemory(ctx, c, 0)
	if err != nil {
		return nil, err
	}
	each := func(all, base int64) float64 { return float64(all-base) / float64(n) }
	return []float64{
		float64(n), each(full.Heap, none.Heap), each(full.Stacks, none.Stacks),
		each(full.Process.RSS, none.Process.RSS), each(full.Objects, none.Objects),
		float64(none.Process.RSS), float64(left.Heap - none.Heap),
	}, nil
}

// settledMemory waits until the server has n sessions, and measures it.
func settledMemory(ctx context.Context, c *child, n int) (m memoryFigures, err error) {
	if err := awaitSessions(ctx, c, n); err != nil {
		return m, err
	}
	return ask[memoryFigures](ctx, c, "memory", memoryArgs{Collect: true})
}

func newIdleClients(ctx context.Context, transport string, addr netip.AddrPort) idleClients {
	switch transport {
	case "tls":
		return &tlsClients{ctx: ctx, addr: addr.String()}
	case "quic":
		return newQUICClients(ctx, addr.String())
	default:
		// Two sources carry maxFleet sessions.
		return newFleet(transport, addr, loopbacks(2, 2))
	}
}

// loopbacks returns n addresses of 127.0.x.y from the one of that number on.
func loopbacks(from, n int) []netip.Addr {
	addrs := make([]netip.Addr, 0, n)
	for i := range n {
		number := from + i
		addrs = append(addrs, netip.AddrFrom4([4]byte{127, 0, byte(number / 250), byte(2 + number%250)}))
	}
	return slices.Clip(addrs)
}
