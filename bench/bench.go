// Package bench loads an echo server over loopback and verifies every byte that
// comes back: the ID of each reply, their order, and their payload.
//
// The load is closed-loop: each session keeps a window of requests in flight and
// sends a new one for each reply. It needs Linux: it reads and writes sockets
// from an epoll loop of its own, because a client that costs more than the
// server measures itself.
package bench

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"runtime"
	"time"
)

// Config says what to load and how. URL is required; the zero value of every
// other field means its default.
type Config struct {
	// URL is the server: tcp://host:port, or ws://host:port/path. Over tcp it
	// must speak packets, over ws one packet a binary message, unless Raw.
	URL string

	// Raw says that the server returns what it gets, byte for byte. Without it,
	// a Request must come back as its Response.
	Raw bool

	// Sessions is the number of connections. Default 8.
	Sessions int

	// InFlight is how many requests each session keeps unanswered. Default
	// 1000.
	InFlight int

	// Size is each request's payload in bytes. Default 4. InFlight times Size
	// is at most 16 MiB.
	Size int

	// Empty makes the payload empty instead of Size's default.
	Empty bool

	// Duration is the measured time. Default 5 s.
	Duration time.Duration

	// Warmup is loaded in the same way before, and not measured. Default 1 s;
	// negative means none.
	Warmup time.Duration

	// Loops is the number of client threads. Default: GOMAXPROCS, at most
	// Sessions.
	Loops int

	// AtStart and AtEnd, where not nil, are called as the measured time begins
	// and ends: to read the server's clocks.
	AtStart, AtEnd func()
}

// Defaults of Config, and its bounds.
const (
	DefaultSessions = 8
	DefaultInFlight = 1000
	DefaultSize     = 4 // bytes
	DefaultDuration = 5 * time.Second
	DefaultWarmup   = time.Second
	maxSessions     = 19_000          // of the 20,000 descriptors a process may have
	maxWindow       = 16 << 20        // bytes in flight a session
	drainTimeout    = 5 * time.Second // for the replies still due at the end
)

// ErrUnsupported is what Run returns on a system without epoll.
var ErrUnsupported = errors.New("bench: the load generator needs Linux")

// Result is what a run measured.
type Result struct {
	URL      string        `json:"url"`
	Sessions int           `json:"sessions"`
	InFlight int           `json:"inflight"`
	Size     int           `json:"size"`     // bytes
	Duration time.Duration `json:"duration"` // nanoseconds, as measured
	Messages int64         `json:"messages"` // verified within Duration
	Rate     float64       `json:"rate"`     // Messages a second

	// Verified counts every reply, those of the warm-up and of the end too.
	Verified int64 `json:"verified"`
	// Errors counts the sessions that failed, and FirstError tells of the first: a reply
	// that isn't the one due, a connection lost, replies that never came.
	Errors     int    `json:"errors"`
	FirstError string `json:"first_error,omitempty"`

	// Latency of one request in each window, from the write that carried it to
	// the read that brought its reply. The loop is closed: a server that stalls
	// is asked less, so these flatter it.
	Samples     int64         `json:"samples"`
	LatencyMean time.Duration `json:"latency_mean"` // nanoseconds, as the next ones
	LatencyP50  time.Duration `json:"latency_p50"`
	LatencyP99  time.Duration `json:"latency_p99"`
}

// Validate reports the first field that is out of its bounds.
func (c *Config) Validate() error {
	if _, err := parseTarget(c.URL); err != nil {
		return err
	}
	full := c.withDefaults()
	switch {
	case full.Sessions < 1 || full.Sessions > maxSessions:
		return fmt.Errorf("bench: Sessions %d is outside 1 to %d", c.Sessions, maxSessions)
	case full.InFlight < 1 || full.InFlight > maxWindow:
		return fmt.Errorf("bench: InFlight %d is outside 1 to %d", c.InFlight, maxWindow)
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

// A target is a server's URL, taken apart.
type target struct {
	scheme string // "tcp" or "ws"
	addr   string // host:port
	path   string // of a WebSocket
}

func parseTarget(rawURL string) (target, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return target{}, fmt.Errorf("bench: URL: %w", err)
	}
	if u.Scheme != "tcp" && u.Scheme != "ws" {
		return target{}, fmt.Errorf("bench: URL %q must begin with tcp:// or ws://", rawURL)
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return target{}, fmt.Errorf("bench: URL %q must name host:port", rawURL)
	}
	t := target{scheme: u.Scheme, addr: u.Host, path: u.RequestURI()}
	if t.scheme == "tcp" && u.Path != "" {
		return target{}, fmt.Errorf("bench: URL %q has a path, and tcp has none", rawURL)
	}
	return t, nil
}
