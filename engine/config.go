package engine

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace/millrace/internal/cpu"
)

// Dispatch says where a session's callbacks run.
type Dispatch uint8

const (
	// Workers runs callbacks on a worker thread per core, pinned to its CPU
	// and fed by the core's ring. The loop goes on reading meanwhile.
	Workers Dispatch = iota
	// Inline runs callbacks on the event loop, over the read buffer itself:
	// the fastest way for handlers that never wait. Sessions of a Transport
	// (QUIC) have OnMessage run by the goroutine that read the message; here as
	// there never two callbacks of one session at a time.
	Inline
)

// Defaults of Config.
const (
	DefaultMaxMessageSize   = 1 << 20          // bytes
	DefaultRingSize         = 1 << 20          // bytes a core
	DefaultReadBufferSize   = 64 << 10         // bytes a core
	DefaultOutboxSoftMark   = 256 << 10        // bytes a session
	DefaultOutboxLimit      = 4 << 20          // bytes a session
	DefaultHandshakeTimeout = 10 * time.Second // from accept to open
	DefaultLingerTimeout    = 3 * time.Second  // from Close to the end
	DefaultShutdownTimeout  = 4 * time.Second  // of Serve, when its context ends
	DefaultPartialTimeout   = 30 * time.Second // of an incomplete message
	DefaultWriteTimeout     = 60 * time.Second // without progress
	DefaultMaxSessions      = 1 << 20          // an engine
	DefaultMaxHandshakes    = 16 << 10         // an engine
	DefaultSniffTimeout     = 10 * time.Second // of a silent connection
	maxCores                = 256              // the width of ID's core field
	maxMessageSizeBound     = 1 << 30          // bytes
	maxRingSize             = 1 << 30          // bytes
	minRingSize             = 64 << 10         // bytes
	minReadBufferSize       = 4 << 10          // bytes
	maxReadBufferSize       = 16 << 20         // bytes
)

// Config is what an Engine is made from. Only Handler is required; the zero
// value of every other field means its default. A Config is copied by New.
type Config struct {
	// Handler is the application. Required.
	Handler Handler

	// Dispatch says where callbacks run. Default Workers.
	Dispatch Dispatch

	// Cores is the number of event loops, rings and workers. Default: the CPUs
	// that this process may use (GOMAXPROCS without what running engines added to it). 1 to 256.
	Cores int

	// Logger gets rare events: a panic with its stack, a failing accept, a development
	// certificate; at level debug also the connections that are refused, at most 10 a
	// second. Nil is slog.Default() at the time of New; to discard them,
	// give it slog.New(slog.DiscardHandler).
	Logger *slog.Logger

	// MaxMessageSize bounds a message's payload plus extension header, in
	// bytes, in both directions. Default 1 MiB; 1 byte to 1 GiB.
	MaxMessageSize int

	// RingSize is the size of each core's ring in bytes, rounded up to a power
	// of two: how much received data may wait for the handlers of a core before
	// its loop stops reading. Default 1 MiB; 64 KiB to 1 GiB.
	RingSize int

	// ReadBufferSize is each loop's read buffer in bytes, and the most that a
	// session may read before others have their turn. Default 64 KiB; 4 KiB to
	// 16 MiB.
	ReadBufferSize int

	// OutboxSoftMark is how many bytes may wait to be written to an accepted
	// session before the engine stops reading from it; it reads on below half of
	// that. A dialed session is always read. Default 256 KiB.
	OutboxSoftMark int

	// OutboxLimit is how many bytes may wait to be written to a session before
	// SlowConsumer applies. Default 4 MiB, or twice MaxMessageSize if that is
	// more. At least OutboxSoftMark.
	OutboxLimit int

	// SlowConsumer says what happens to a message that would take a session's
	// outbox above OutboxLimit. Default CloseSlow.
	SlowConsumer SlowConsumer

	// HandshakeTimeout bounds the time from accept until a session is open,
	// once its first byte came. Default 10 s; negative means none.
	HandshakeTimeout time.Duration

	// SniffTimeout is how long a listener with several protocols waits for the
	// first byte that tells them apart. A connection that stays silent longer
	// is taken as a packet session where the listener has Packets, else it is
	// closed with ErrHandshakeTimeout. Default 10 s; negative means for ever.
	SniffTimeout time.Duration

	// IdleTimeout closes a session from which no byte came for so long, with
	// ErrIdleTimeout. 0 means never. Its resolution is 50 ms.
	IdleTimeout time.Duration

	// PartialTimeout ends a session whose peer has begun a message and for so long
	// neither finished it nor sent at least 16 KiB more of it, with
	// ErrPartialTimeout. The time in which this side doesn't read isn't counted.
	// Default 30 s; negative means none. A session ends at most a quarter later.
	PartialTimeout time.Duration

	// WriteTimeout closes a session whose peer has taken none of the bytes that
	// wait for it for so long, with ErrWriteTimeout. Default 60 s; negative
	// means never. Its resolution is 50 ms.
	WriteTimeout time.Duration

	// MaxSessions bounds the sessions of the engine, accepted and dialed, on
	// all transports together. A connection above it is refused. Default
	// 1,048,576; negative means no bound.
	MaxSessions int

	// MaxSessionsPerAddr bounds the sessions of one remote IP address. 0 means
	// no bound.
	MaxSessionsPerAddr int

	// MaxHandshakes bounds the accepted connections that aren't open yet:
	// silent, sniffed, or in their protocol's handshake, on all transports
	// together. Default 16,384; negative means no bound.
	MaxHandshakes int

	// AcceptRate bounds the connections admitted a second, on the average and
	// at once. 0 means no bound.
	AcceptRate int

	// MessageRate and ByteRate bound what a session may send a second, on the
	// average and at once; the bytes are those of payloads and framing. A session that sends more
	// is read more slowly, nothing of it is dropped. 0 means no bound.
	MessageRate int
	ByteRate    int

	// Socket are the options of TCP and Unix sockets.
	Socket SocketOptions

	// LingerTimeout bounds how long a closing session may take to write what
	// is queued and to hear the peer's own end. Default 3 s; negative means
	// that nothing is waited for.
	LingerTimeout time.Duration

	// ShutdownTimeout bounds the graceful shutdown that Serve makes when its
	// context ends, and how long Close waits for callbacks that are running.
	// Default 4 s; negative means that Serve closes at once, and leaves Close the default.
	ShutdownTimeout time.Duration
}

// Limits are the bounds that a protocol must keep, every default filled in.
type Limits struct {
	MaxMessageSize   int           // bytes of payload plus extension header
	OutboxSoftMark   int           // bytes a session
	OutboxLimit      int           // bytes a session
	SlowConsumer     SlowConsumer  // what happens above it
	HandshakeTimeout time.Duration // 0 means none
	IdleTimeout      time.Duration // 0 means none
	LingerTimeout    time.Duration // 0 means not to wait
	PartialTimeout   time.Duration // of an incomplete message; 0 means none
	WriteTimeout     time.Duration // without progress; 0 means none
	MaxHandshakes    int           // an engine; negative means no bound

	MaxSessionsPerAddr int // of one remote IP address; 0 means no bound
	AcceptRate         int // connections a second; 0 means no bound

	engine *Engine // whose callbacks may not block; nil in tests of an Outbox alone
}

// Validate reports the first field that is out of its bounds.
func (c *Config) Validate() error {
	switch {
	case c.Handler == nil:
		return fmt.Errorf("engine: Config.Handler is required")
	case c.Dispatch > Inline:
		return fmt.Errorf("engine: Config.Dispatch %d is neither Workers nor Inline", c.Dispatch)
	case c.SlowConsumer > DropOldest:
		return fmt.Errorf("engine: Config.SlowConsumer %d is not a policy", c.SlowConsumer)
	case c.OutboxSoftMark < 0:
		return fmt.Errorf("engine: Config.OutboxSoftMark %d is negative", c.OutboxSoftMark)
	case c.IdleTimeout < 0:
		return fmt.Errorf("engine: Config.IdleTimeout %v is negative", c.IdleTimeout)
	case c.MaxSessionsPerAddr < 0:
		return fmt.Errorf("engine: Config.MaxSessionsPerAddr %d is negative", c.MaxSessionsPerAddr)
	case c.AcceptRate < 0:
		return fmt.Errorf("engine: Config.AcceptRate %d is negative", c.AcceptRate)
	case c.MessageRate < 0:
		return fmt.Errorf("engine: Config.MessageRate %d is negative", c.MessageRate)
	case c.ByteRate < 0:
		return fmt.Errorf("engine: Config.ByteRate %d is negative", c.ByteRate)
	}
	for _, b := range []struct {
		field         string
		value, lo, hi int
	}{
		{"Cores", c.Cores, 1, maxCores},
		{"MaxMessageSize", c.MaxMessageSize, 1, maxMessageSizeBound},
		{"RingSize", c.RingSize, minRingSize, maxRingSize},
		{"ReadBufferSize", c.ReadBufferSize, minReadBufferSize, maxReadBufferSize},
	} {
		if b.value != 0 && (b.value < b.lo || b.value > b.hi) {
			return fmt.Errorf("engine: Config.%s %d is outside %d to %d", b.field, b.value, b.lo, b.hi)
		}
	}
	if err := c.Socket.Validate(); err != nil {
		return err
	}
	full := c.withDefaults()
	if full.OutboxLimit < full.OutboxSoftMark {
		return fmt.Errorf("engine: Config.OutboxLimit %d is below OutboxSoftMark %d",
			full.OutboxLimit, full.OutboxSoftMark)
	}
	return nil
}

// withDefaults returns c with every zero field replaced by its default, and
// every "none" (negative duration) by zero.
func (c Config) withDefaults() Config {
	setInt(&c.Cores, min(cpu.Procs(), maxCores))
	setInt(&c.MaxMessageSize, DefaultMaxMessageSize)
	setInt(&c.RingSize, DefaultRingSize)
	setInt(&c.ReadBufferSize, DefaultReadBufferSize)
	setInt(&c.OutboxSoftMark, DefaultOutboxSoftMark)
	setInt(&c.OutboxLimit, max(DefaultOutboxLimit, 2*c.MaxMessageSize))
	setDuration(&c.HandshakeTimeout, DefaultHandshakeTimeout)
	setDuration(&c.PartialTimeout, DefaultPartialTimeout)
	setDuration(&c.WriteTimeout, DefaultWriteTimeout)
	setInt(&c.MaxSessions, DefaultMaxSessions)
	setInt(&c.MaxHandshakes, DefaultMaxHandshakes)
	setDuration(&c.SniffTimeout, DefaultSniffTimeout)
	setDuration(&c.LingerTimeout, DefaultLingerTimeout)
	setDuration(&c.ShutdownTimeout, DefaultShutdownTimeout)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func setInt(field *int, def int) {
	if *field == 0 {
		*field = def
	}
}

func setDuration(field *time.Duration, def time.Duration) {
	switch {
	case *field == 0:
		*field = def
	case *field < 0:
		*field = 0
	}
}

func (c *Config) limits() Limits {
	return Limits{
		MaxMessageSize:   c.MaxMessageSize,
		OutboxSoftMark:   c.OutboxSoftMark,
		OutboxLimit:      c.OutboxLimit,
		SlowConsumer:     c.SlowConsumer,
		HandshakeTimeout: c.HandshakeTimeout,
		IdleTimeout:      c.IdleTimeout,
		LingerTimeout:    c.LingerTimeout,
		PartialTimeout:   c.PartialTimeout,
		WriteTimeout:     c.WriteTimeout,
		MaxHandshakes:    c.MaxHandshakes,

		MaxSessionsPerAddr: c.MaxSessionsPerAddr,
		AcceptRate:         c.AcceptRate,
	}
}
