package quicbridge

import (
	"crypto/tls"
	"fmt"
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

	// unboundedHandshake replaces an engine.Limits.HandshakeTimeout of 0 (no
	// timeout), because quic-go always has one.
	unboundedHandshake = time.Hour
)

// Config configures QUIC. The zero value of every field means its default, so
// Config{} works. QUIC copies it.
type Config struct {
	// TLS holds the server's certificates, or the client's roots. This package sets
	// NextProtos and MinVersion in its own copies. It does not write to TLS; the
	// caller must not change it later.
	//
	// With nil, Listen uses the certificates of the listener's engine.TLS protocol, if
	// it has one. If not, it uses a development certificate for localhost, 127.0.0.1
	// and ::1, which is made in memory once a process, and logs a warning; but only on
	// a loopback address or with SelfSigned. With nil, Dial verifies the server by the system's roots and the dialed host name.
	// Verification is off only if the caller sets InsecureSkipVerify here.
	TLS *tls.Config

	// SelfSigned allows the development certificate on any address.
	SelfSigned bool

	// MaxStreams is how many bidirectional streams a peer may have open at the
	// same time on one connection. Default 100; 1 to 10,000.
	MaxStreams int

	// MaxIncomingUni is how many unidirectional streams a msgtrans peer may have
	// open at the same time on one accepted connection. Each carries one packet.
	// Default 100; 1 to 10,000.
	MaxIncomingUni int

	// IdleTimeout closes a connection with engine.ErrIdleTimeout after so much time
	// without a packet from the peer. If the peer's timeout or
	// engine.Config.IdleTimeout is shorter, that one applies. Default 30 s; 100 ms
	// to 24 h.
	IdleTimeout time.Duration

	// KeepAlive is the interval of the probes on a dialed connection without other
	// traffic, so that it does not time out. It is at most half of IdleTimeout.
	// Accepted connections do not probe. Default 10 s; negative means no probes.
	KeepAlive time.Duration

	// InitialWindow is how many bytes a new peer may send on a connection before
	// any of them is read, and half of it on a single stream. Small windows bound
	// the memory that a peer can occupy by sending tiny pieces. Default 256 KiB; 16
	// KiB to 1 GiB.
	InitialWindow int

	// MaxWindow is the size in bytes to which that window may grow while data is
	// read as fast as it arrives, and half of it on a single stream. Default 4 MiB,
	// or InitialWindow if that is more; 16 KiB to 1 GiB.
	MaxWindow int

	// ReadMemory bounds the read buffers of all streams of a connection, in bytes.
	// They hold packets that the peer has begun and not finished, and packets that
	// wait for the handler. If unfinished packets need more, the connection is
	// closed with engine.ErrTooLarge. If packets that wait for the handler need
	// more, reading waits. An eighth is reserved for packets below 64 KiB. Default
	// 16 MiB; 1 MiB to 1 GiB; or twice the buffer of a message of
	// engine.Config.MaxMessageSize, if that is more.
	ReadMemory int
}

// Validate returns an error that names the first field out of its bounds, or nil.
// It does not check TLS; Listen does.
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
	var keepAlive time.Duration
	if ping := limits.PingInterval; ping > 0 {
		idle = min(idle, ping+limits.PongTimeout)
		keepAlive = min(ping, idle/2)
	}
	handshake := limits.HandshakeTimeout
	if handshake == 0 {
		handshake = unboundedHandshake
	}
	return &quic.Config{
		// quic-go fails a handshake after twice this time, or after this time
		// without a packet.
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
		KeepAlivePeriod:                keepAlive,
	}
}

// dialConfig is quicConfig for dialed connections. They send keep-alive probes, and
// accept no unidirectional streams, because millrace/1 does not use them.
func (c *Config) dialConfig(limits *engine.Limits) *quic.Config {
	q := c.quicConfig(limits)
	if q.KeepAlivePeriod == 0 {
		q.KeepAlivePeriod = c.KeepAlive
	}
	q.MaxIncomingUniStreams = -1
	return q
}
