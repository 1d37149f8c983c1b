package quicbridge

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/quic-go/quic-go"
)

// ALPN is the application protocol that Millrace's QUIC peers negotiate
// (docs/WIRE.md section 3).
const ALPN = "millrace/1"

// Defaults and bounds of Config.
const (
	DefaultMaxStreams     = 100              // streams a connection
	DefaultMaxIncomingUni = 100              // streams a connection
	DefaultIdleTimeout    = 30 * time.Second // without a packet from the peer
	DefaultKeepAlive      = 10 * time.Second // between probes
	DefaultInitialWindow  = 256 << 10        // bytes a connection
	DefaultMaxWindow      = 4 << 20          // bytes a connection
	DefaultReadMemory     = 16 << 20         // bytes a connection

	maxStreams     = 10_000                 // streams a connection
	minIdleTimeout = 100 * time.Millisecond // shorter than a handshake would take
	maxIdleTimeout = 24 * time.Hour
	minWindow      = 16 << 10 // bytes
	maxWindow      = 1 << 30  // bytes
	minReadMemory  = 1 << 20  // bytes
	maxReadMemory  = 1 << 30  // bytes

	// unboundedHandshake stands for an engine.Limits.HandshakeTimeout of none,
	// which QUIC has no way to say.
	unboundedHandshake = time.Hour
)

// Config says how QUIC is spoken. The zero value of every field means its
// default, so Config{} works. QUIC copies it.
type Config struct {
	// TLS holds the server's certificates, or the client's roots; its NextProtos
	// are set by this package. It isn't written to, and must not change later.
	//
	// Nil means for Listen a development certificate that is made in memory, one
	// for the process, for localhost, 127.0.0.1 and ::1; a warning is logged. For
	// Dial nil means to verify the server by the system's roots and the dialed
	// host name. Verification is only ever off if the caller sets
	// InsecureSkipVerify here.
	TLS *tls.Config

	// MaxStreams is how many bidirectional streams a peer may have open at the
	// same time on one connection. Default 100; 1 to 10,000.
	MaxStreams int

	// MaxIncomingUni is how many unidirectional streams a msgtrans peer may have
	// open at the same time on one accepted connection, each of which carries
	// one packet. Default 100; 1 to 10,000.
	MaxIncomingUni int

	// IdleTimeout ends a connection from which no packet came for so long, with
	// engine.ErrIdleTimeout. The peer's own timeout counts if it is shorter, and
	// so does engine.Config.IdleTimeout. Default 30 s; 100 ms to 24 h.
	IdleTimeout time.Duration

	// KeepAlive is how often a dialed connection that is otherwise silent is
	// probed, so that it doesn't time out; never less often than at half of
	// IdleTimeout. Accepted connections don't probe. Default 10 s; negative
	// means never.
	KeepAlive time.Duration

	// InitialWindow is how many bytes a new peer may send on a connection before
	// anything of it was read, in bytes; half of it on a single stream. Small
	// windows are what bounds the memory that a peer can take by sending tiny
	// pieces. Default 256 KiB; 16 KiB to 1 GiB.
	InitialWindow int

	// MaxWindow is how far that window may grow, in bytes, for a peer whose data
	// is read as fast as it comes; half of it on a single stream. Default 4 MiB,
	// or InitialWindow if that is more; 16 KiB to 1 GiB.
	MaxWindow int

	// ReadMemory bounds the buffers in which the streams of a connection are read,
	// in bytes: those of packets that the peer has begun and not finished, and those
	// that wait for the handler. A peer that needs more for the former loses its
	// connection with engine.ErrTooLarge; while the latter need it, nothing more
	// is read. An eighth is kept for packets below 64 KiB. Default 16 MiB; 1 MiB to
	// 1 GiB; or twice the buffer of a message of engine.Config.MaxMessageSize, if
	// that is more.
	ReadMemory int

	// Logger gets rare events: the development certificate, a socket that
	// failed. Nil is slog.Default().
	Logger *slog.Logger
}

// Validate reports the first field that is out of its bounds.
func (c *Config) Validate() error {
	for _, b := range []struct {
		field         string
		value, lo, hi int
	}{
		{"MaxStreams", c.MaxStreams, 1, maxStreams},
		{"MaxIncomingUni", c.MaxIncomingUni, 1, maxStreams},
		{"InitialWindow", c.InitialWindow, minWindow, maxWindow},
		{"MaxWindow", c.MaxWindow, minWindow, maxWindow},
		{"ReadMemory", c.ReadMemory, minReadMemory, maxReadMemory},
	} {
		if b.value != 0 && (b.value < b.lo || b.value > b.hi) {
			return fmt.Errorf("quicbridge: Config.%s %d is outside %d to %d", b.field, b.value, b.lo, b.hi)
		}
	}
	if c.IdleTimeout != 0 && (c.IdleTimeout < minIdleTimeout || c.IdleTimeout > maxIdleTimeout) {
		return fmt.Errorf("quicbridge: Config.IdleTimeout %v is outside %v to %v",
			c.IdleTimeout, minIdleTimeout, maxIdleTimeout)
	}
	full := c.withDefaults()
	if full.MaxWindow < full.InitialWindow {
		return fmt.Errorf("quicbridge: Config.MaxWindow %d is below InitialWindow %d",
			full.MaxWindow, full.InitialWindow)
	}
	return nil
}

// withDefaults returns c with every zero field replaced by its default, and a
// negative KeepAlive by zero.
func (c Config) withDefaults() Config {
	setInt(&c.MaxStreams, DefaultMaxStreams)
	setInt(&c.MaxIncomingUni, DefaultMaxIncomingUni)
	setInt(&c.InitialWindow, DefaultInitialWindow)
	setInt(&c.MaxWindow, max(DefaultMaxWindow, c.InitialWindow))
	setInt(&c.ReadMemory, DefaultReadMemory)
	if c.IdleTimeout == 0 {
		c.IdleTimeout = DefaultIdleTimeout
	}
	switch {
	case c.KeepAlive == 0:
		c.KeepAlive = DefaultKeepAlive
	case c.KeepAlive < 0:
		c.KeepAlive = 0
	}
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

// quicConfig translates a full Config into quic-go's, for accepted connections.
func (c *Config) quicConfig(limits *engine.Limits) *quic.Config {
	idle := c.IdleTimeout
	if limits.IdleTimeout > 0 {
		idle = min(idle, limits.IdleTimeout)
	}
	handshake := limits.HandshakeTimeout
	if handshake == 0 {
		handshake = unboundedHandshake
	}
	return &quic.Config{
		// quic-go gives up at twice this time, or once it is silent for so long.
		HandshakeIdleTimeout:           handshake / 2,
		MaxIdleTimeout:                 idle,
		InitialStreamReceiveWindow:     uint64(c.InitialWindow) / 2,
		MaxStreamReceiveWindow:         uint64(c.MaxWindow) / 2,
		InitialConnectionReceiveWindow: uint64(c.InitialWindow),
		MaxConnectionReceiveWindow:     uint64(c.MaxWindow),
		MaxIncomingStreams:             int64(c.MaxStreams),
		MaxIncomingUniStreams:          int64(c.MaxIncomingUni),
		EnableDatagrams:                true,
		Allow0RTT:                      false,
	}
}

// dialConfig is quicConfig for dialed connections: they keep themselves alive,
// and no peer that speaks millrace/1 has a use for unidirectional streams.
func (c *Config) dialConfig(limits *engine.Limits) *quic.Config {
	q := c.quicConfig(limits)
	q.KeepAlivePeriod = c.KeepAlive
	q.MaxIncomingUniStreams = -1
	return q
}
