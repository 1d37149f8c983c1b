// Package bench loads an echo server over loopback and verifies every byte that
// comes back: the ID of each reply, their order, and their payload.
//
// A closed-loop load keeps a window of requests in flight on each session and sends
// a new request for each reply. An open-loop load (Config.Rate) gives each request an
// intended time. Latency counts from this time, so it includes the stalls of a
// server. The package needs Linux: it reads and writes sockets, TLS included, from its
// own epoll loops. A client that costs more than the server would measure only itself.
package bench

import (
	"crypto/tls"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
)

// Config is the target and the shape of a load. URL is required; the zero value of every
// other field means its default.
type Config struct {
	// URL is the server: tcp://host:port, tls://host:port, unix:///path,
	// ws://host:port/path, wss://host:port/path or quic://host:port. It must
	// speak packets, on WebSocket one a binary message, on QUIC with the ALPN
	// millrace/1 (docs/WIRE.md).
	URL string

	// TLS is the client's side of tls, wss and quic; it is cloned. Nil verifies
	// the server with the system's roots and the URL's host. CAFile is a PEM file that
	// replaces the roots. Insecure turns verification off.
	TLS      *tls.Config
	CAFile   string
	Insecure bool

	// Raw expects the server to return all bytes unchanged. Without it, the reply to a
	// Request must be its Response.
	Raw bool

	// OneWay sends OneWay messages, which must come back as OneWay messages.
	OneWay bool

	// Sessions is the number of connections. Default 8.
	Sessions int

	// Streams is the number of streams that each QUIC connection has, each with
	// a window of its own. Default 1, and no more on other transports. With
	// Sessions at most 19,000 in all.
	Streams int

	// Separate makes each session a client of its own, with its own goroutines instead
	// of a shared event loop: it writes each request with one Write when an answer has
	// made room for it, and no Write has two requests. On QUIC each request has a
	// bidirectional stream of its own, Streams is the number of requests in flight on a
	// connection, and InFlight must be 1. Not with Rate. Loops has no effect.
	Separate bool

	// InFlight is how many unanswered requests each session, or stream, has; in an
	// open loop it is the maximum. Default 1000.
	InFlight int

	// Size is each request's payload in bytes. Default 4. InFlight times Size
	// is at most 16 MiB.
	Size int

	// Sizes are payload sizes in bytes instead of Size: each request has a
	// random one of them, and a size given twice is twice as likely. InFlight times the
	// largest is at most 16 MiB.
	Sizes []int

	// Empty makes the payload empty instead of Size's default.
	Empty bool

	// Rate makes an open loop: requests a second over all sessions, at most
	// 50 million. Default 0, a closed loop.
	Rate float64

	// Poisson spaces an open loop's requests randomly, like those of independent
	// users. Without it they are evenly spaced.
	Poisson bool

	// RampUp is the time over which the sessions, all connected, begin one after
	// the other. It comes before Warmup. Default 0: all at once.
	RampUp time.Duration

	// Duration is the measured time. Default 5 s.
	Duration time.Duration

	// Warmup is a time of the same load before Duration. It is not measured. Default 1 s;
	// negative means none.
	Warmup time.Duration

	// Loops is the number of client threads. Default: GOMAXPROCS, at most
	// Sessions.
	Loops int

	// BeforeDial, if not nil, is called before each session connects, with its number
	// from 0. Its error ends Run. So a caller that opens connections of its own there
	// knows the order in which the server accepts.
	BeforeDial func(session int) error

	// AtStart and AtEnd, if not nil, are called when the measured time begins and
	// ends, for example to read the server's CPU time.
	AtStart, AtEnd func()

	// Progress, if not nil, is called about once a second from Run's own
	// goroutine. A slow Progress delays the end of the run, but not the load.
	Progress func(Progress)
}

// Defaults of Config, and its bounds.
const (
	DefaultSessions = 8
	DefaultInFlight = 1000
	DefaultSize     = 4 // bytes
	DefaultDuration = 5 * time.Second
	DefaultWarmup   = time.Second
	maxSessions     = 19_000          // of the 20,000 descriptors a process may have
	maxRate         = 50e6            // requests a second
	maxWindow       = 16 << 20        // bytes in flight a session
	drainTimeout    = 5 * time.Second // for the replies still due at the end
)

// ErrUnsupported is Run's error on a system without epoll.
var ErrUnsupported = errors.New("bench: the load generator needs Linux")

// Validate reports the first field that is out of its bounds.
func (c *Config) Validate() error {
	t, err := parseTarget(c.URL)
	if err != nil {
		return err
	}
	full := c.withDefaults()
	switch {
	case full.Sessions < 1 || full.Sessions > maxSessions:
		return fmt.Errorf("bench: Sessions %d is outside 1 to %d", c.Sessions, maxSessions)
	case full.InFlight < 1 || full.InFlight > maxWindow:
		return fmt.Errorf("bench: InFlight %d is outside 1 to %d", c.InFlight, maxWindow)
	case full.Streams < 1 || full.Streams > maxSessions/full.Sessions:
		return fmt.Errorf("bench: Streams %d is outside 1 to %d, 19,000 by Sessions", c.Streams, maxSessions/full.Sessions)
	case full.Streams > 1 && t.scheme != "quic":
		return fmt.Errorf("bench: Streams %d: %s has one a session", c.Streams, t.scheme)
	case len(c.Sizes) > 0 && (slices.Min(c.Sizes) < 0 || slices.Max(c.Sizes) > maxWindow/full.InFlight):
		return fmt.Errorf("bench: Sizes has one outside 0 to %d, 16 MiB by InFlight", maxWindow/full.InFlight)
	case !(full.Rate >= 0 && full.Rate <= maxRate):
		return fmt.Errorf("bench: Rate %v is outside 0 to %.0f", c.Rate, maxRate)
	case full.Separate && full.Rate > 0:
		return errors.New("bench: Separate and Rate exclude each other")
	case full.Separate && t.scheme == "quic" && full.InFlight != 1:
		return fmt.Errorf("bench: InFlight %d: with Separate and QUIC it must be 1, and Streams may be more", full.InFlight)
	case full.Poisson && full.Rate == 0:
		return errors.New("bench: Poisson needs a Rate")
	case full.RampUp < 0:
		return fmt.Errorf("bench: RampUp %v is negative", c.RampUp)
	case full.Size < 0 || full.Size > maxWindow/full.InFlight:
		return fmt.Errorf("bench: Size %d is outside 0 to %d, 16 MiB by InFlight", c.Size, maxWindow/full.InFlight)
	case full.Duration < 0:
		return fmt.Errorf("bench: Duration %v is negative", c.Duration)
	case full.Loops < 1:
		return fmt.Errorf("bench: Loops %d is negative", c.Loops)
	}
	return nil
}

func (c Config) withDefaults() Config {
	setDefault(&c.Sessions, DefaultSessions)
	setDefault(&c.Streams, 1)
	setDefault(&c.InFlight, DefaultInFlight)
	setDefault(&c.Duration, DefaultDuration)
	setDefault(&c.Warmup, DefaultWarmup)
	setDefault(&c.Loops, runtime.GOMAXPROCS(0))
	if !c.Empty {
		setDefault(&c.Size, DefaultSize)
	}
	c.Loops = min(c.Loops, c.Sessions)
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
