package engine

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace/millrace/internal/cpu"
)

// Dispatch selects the goroutine that runs a session's callbacks.
type Dispatch uint8

const (
	// Workers runs callbacks on a worker thread per core, which is pinned to its CPU.
	// While callbacks are short that thread reads, too, and they run over the read
	// buffer itself. When a callback takes long, a second thread continues to read and
	// write within a millisecond, and the core's ring keeps the messages. A callback
	// may block: that delays the other callbacks of its core, and the replies to
	// messages of the same session that arrived together with its message.
	Workers Dispatch = iota
	// Inline runs callbacks on the event loop, over the read buffer itself, without a
	// second thread: a callback that blocks stops the reading and writing of its core.
	// For sessions of a Transport (QUIC) the goroutine that read the message runs
	// OnMessage. Two callbacks of one session never run at the same time.
	Inline
)

// Defaults of Config.
const (
	DefaultMaxMessageSize   = 1 << 20          // bytes
	DefaultRingSize         = 1 << 20          // bytes a core
	DefaultReadBufferSize   = 64 << 10         // bytes a core
	DefaultOutboxSoftMark   = 256 << 10        // bytes a session
	DefaultOutboxLimit      = 4 << 20          // bytes a session
	DefaultHandshakeTimeout = 10 * time.Second // of a session until it is open
	DefaultLingerTimeout    = 3 * time.Second  // from Close to the end of the connection
	DefaultShutdownTimeout  = 4 * time.Second  // of Serve, after its context has ended
	DefaultPongTimeout      = 10 * time.Second // from a ping to its answer
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

// Config configures an Engine. Only Handler is required; the zero value of every
// other field means its default. New copies it.
type Config struct {
	// Handler is the application. Required.
	Handler Handler

	// Authorize decides about each accepted session before it opens; nil admits all. A
	// ListenConfig may add an Authorizer of its own, which runs after this one.
	Authorize Authorizer

	// Dispatch selects the goroutine that runs callbacks. Default Workers.
	Dispatch Dispatch

	// Cores is the number of event loops, rings and workers, 1 to 256. Default: the
	// CPUs that this process may use (GOMAXPROCS without the increase by running
	// engines).
	Cores int

	// Logger gets rare events: a panic with its stack, a failing accept, a development
	// certificate; at level debug also refused connections, at most 10 a second. Nil
	// means slog.Default() at the time of New; slog.New(slog.DiscardHandler) discards
	// them.
	Logger *slog.Logger

	// MaxMessageSize bounds a message's payload plus extension header, in
	// bytes, in both directions. Default 1 MiB; 1 byte to 1 GiB.
	MaxMessageSize int

	// RingSize is the size of each core's ring in bytes, rounded up to a power of two.
	// It bounds the received data that waits for the handlers of a core; the loop
	// stops reading when the ring is full. Default 1 MiB; 64 KiB to 1 GiB.
	RingSize int

	// ReadBufferSize is the size of each loop's read buffer in bytes. A session reads
	// at most so much before the loop serves its other sockets. Default 64 KiB; 4 KiB
	// to 16 MiB.
	ReadBufferSize int

	// OutboxSoftMark is how many bytes may wait to be written to an accepted session
	// before the engine stops reading from it. Reading resumes at half of that. A
	// dialed session is always read. Default 256 KiB.
	OutboxSoftMark int

	// OutboxLimit is how many bytes may wait to be written to a session before
	// SlowConsumer applies. Default 4 MiB, or twice MaxMessageSize if that is
	// more. At least OutboxSoftMark.
	OutboxLimit int

	// SlowConsumer is the policy for a message that would take a session's outbox
	// above OutboxLimit. Default SlowConsumerClose.
	SlowConsumer SlowConsumerPolicy

	// HandshakeTimeout bounds the handshakes of an accepted session, from its first
	// byte until it is open. It counts from accept for a PROXY header, and for a
	// listener with one stream protocol and no TLS. It also bounds Dial. Default 10 s;
	// negative means none.
	HandshakeTimeout time.Duration

	// SniffTimeout is how long a listener with several protocols, or with TLS, waits
	// for the first byte, which decides between them. A connection that stays silent
	// longer becomes a session of Packets, or of the only protocol under TLS, if the
	// listener has that and TLS is not still required. Otherwise it is closed with
	// ErrHandshakeTimeout. Default 10 s; negative means no bound.
	SniffTimeout time.Duration

	// IdleTimeout closes a session with ErrIdleTimeout if no byte has arrived from its
	// peer for this time. Time in which the engine does not read is not counted. 0
	// means never. Its resolution is 50 ms.
	IdleTimeout time.Duration

	// PingInterval makes the engine ask whether a silent peer is still there: after so
	// much time without a byte from it, it sends the protocol's ping (WebSocket, RFC 6455
	// section 5.5.2), and ends the session with ErrPongTimeout if nothing arrives within
	// PongTimeout. A protocol without a ping gets TCP's keep-alive probes instead
	// (RFC 9293 section 3.8.4), whose failure is ErrConnectionLost; QUIC its own PING
	// frames, whose failure is ErrIdleTimeout. So a peer that is silent but alive stays,
	// also with an IdleTimeout above PingInterval. While bytes wait to be written, there
	// are no pings: WriteTimeout then decides. 0 means no pings. The resolution is 50
	// ms, and a second for TCP. PongTimeout is 10 s by default, and needs a PingInterval.
	PingInterval time.Duration
	PongTimeout  time.Duration

	// PartialTimeout ends a session with ErrPartialTimeout if its peer has begun a
	// message and, within this time, neither completed it nor sent at least 16 KiB
	// more of it. Time in which the engine does not read is not counted. Default 30 s;
	// negative means none. The session may end later: over QUIC by up to a quarter.
	PartialTimeout time.Duration

	// WriteTimeout closes a session with ErrWriteTimeout if its peer has accepted none
	// of the bytes that wait for it for this time. Default 60 s; negative means never.
	// Its resolution is 50 ms.
	WriteTimeout time.Duration

	// MaxSessions bounds the sessions of the engine, accepted and dialed, on
	// all transports together. A connection above it is refused. Default
	// 1,048,576; negative means no bound.
	MaxSessions int

	// MemoryLimit bounds, in bytes, the memory that the sessions of the process use, on
	// all its engines together: queued and incomplete messages, connections, TLS, the
	// memory of transports, rings and read buffers. Memory of the application does not
	// count, nor memory that the garbage collector has not freed yet: a program that has
	// to stay below a size sets debug.SetMemoryLimit, too.
	//
	// At 80 % of it the engine refuses new connections, and Dial fails; both with
	// ErrMemoryLimit. At 90 % it does not read sessions that buffer more than
	// OutboxSoftMark, or than half of an equal share of the limit if that is less; that
	// time counts for PartialTimeout. At 100 % it closes those that buffer most, with
	// ErrMemoryLimit, under any SlowConsumer. A session that buffers less is neither
	// paused nor closed. The engine looks when about 4 MiB were added.
	//
	// Default 70 % of the limit of the process's cgroup, or of the RAM if that is less;
	// no limit where neither is known. Negative means none. At least twice what the
	// engine's rings and read buffers take: Cores x (RingSize + 2 x ReadBufferSize).
	MemoryLimit int64

	// MaxSessionsPerAddr bounds the accepted sessions of one remote IP address. 0
	// means no bound. Dialed sessions do not count.
	MaxSessionsPerAddr int

	// MaxHandshakes bounds the accepted connections that are not open yet, on all
	// transports together: silent ones, and those in a handshake. Default 16,384;
	// negative means no bound.
	MaxHandshakes int

	// AcceptRate bounds the connections admitted a second: it is both the average and
	// the largest burst. 0 means no bound.
	AcceptRate int

	// MessageRate and ByteRate bound how many messages and bytes a session receives a
	// second: each is both the average and the largest burst. Bytes are those of
	// payloads and framing. A session above a rate is read more slowly; nothing is
	// dropped. 0 means no bound.
	MessageRate int
	ByteRate    int

	// Socket holds the options of TCP and Unix sockets.
	Socket SocketOptions

	// LingerTimeout bounds how long a closing session may take to write its queued
	// bytes and to read the peer's end. Default 3 s; negative means not to wait.
	LingerTimeout time.Duration

	// ShutdownTimeout bounds the graceful shutdown that Serve makes after its context
	// has ended, and how long Close waits for running callbacks. Default 4 s; negative
	// means that Serve closes at once, and that Close uses the default.
	ShutdownTimeout time.Duration
}

// Limits, for protocol authors, are the bounds that a protocol must keep. Defaults are
// filled in.
type Limits struct {
	MaxMessageSize   int                // bytes of payload plus extension header
	OutboxSoftMark   int                // bytes a session
	OutboxLimit      int                // bytes a session
	SlowConsumer     SlowConsumerPolicy // the policy above OutboxLimit
	HandshakeTimeout time.Duration      // 0 means none
	IdleTimeout      time.Duration      // 0 means none
	LingerTimeout    time.Duration      // 0 means not to wait
	PartialTimeout   time.Duration      // of an incomplete message; 0 means none
	PingInterval     time.Duration      // without a byte from the peer; 0 means no pings
	PongTimeout      time.Duration      // from a ping to its answer
	WriteTimeout     time.Duration      // without progress; 0 means none
	MaxHandshakes    int                // an engine; negative means no bound

	MaxSessionsPerAddr int // of one remote IP address; 0 means no bound
	AcceptRate         int // connections a second; 0 means no bound

	// The engine keeps these: messages and bytes a second of a session; 0 means no bound.
	messageRate, byteRate int

	engine *Engine // counts dropped messages; nil in tests of an Outbox alone
}

// Validate reports the first field that is out of its bounds.
func (c *Config) Validate() error {
	switch {
	case c.Handler == nil:
		return fmt.Errorf("engine: Config.Handler is required")
	case c.Dispatch > Inline:
		return fmt.Errorf("engine: Config.Dispatch %d is neither Workers nor Inline", c.Dispatch)
	case c.SlowConsumer > SlowConsumerDropOldest:
		return fmt.Errorf("engine: Config.SlowConsumer %d is not a policy", c.SlowConsumer)
	case c.OutboxSoftMark < 0:
		return fmt.Errorf("engine: Config.OutboxSoftMark %d is negative", c.OutboxSoftMark)
	case c.IdleTimeout < 0:
		return fmt.Errorf("engine: Config.IdleTimeout %v is negative", c.IdleTimeout)
	case c.PingInterval < 0:
		return fmt.Errorf("engine: Config.PingInterval %v is negative", c.PingInterval)
	case c.PongTimeout < 0 || c.PongTimeout > 0 && c.PingInterval == 0:
		return fmt.Errorf("engine: Config.PongTimeout %v needs a PingInterval, and must not be negative", c.PongTimeout)
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
	if least := 2 * full.coreMemory(); c.MemoryLimit > 0 && c.MemoryLimit < int64(least) {
		return fmt.Errorf("engine: Config.MemoryLimit %d is below %d, twice the rings and read buffers", c.MemoryLimit, least)
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
	if c.PingInterval > 0 {
		setDuration(&c.PongTimeout, DefaultPongTimeout)
	}
	setInt(&c.MaxSessions, DefaultMaxSessions)
	setInt(&c.MaxHandshakes, DefaultMaxHandshakes)
	if c.MemoryLimit == 0 {
		c.MemoryLimit = defaultMemoryLimit()
	}
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
		PingInterval:     c.PingInterval,
		PongTimeout:      c.PongTimeout,
		WriteTimeout:     c.WriteTimeout,
		MaxHandshakes:    c.MaxHandshakes,
		messageRate:      c.MessageRate,
		byteRate:         c.ByteRate,

		MaxSessionsPerAddr: c.MaxSessionsPerAddr,
		AcceptRate:         c.AcceptRate,
	}
}
