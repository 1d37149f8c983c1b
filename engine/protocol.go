package engine

import (
	"context"
	"net"
	"net/netip"

	"github.com/millrace/millrace/framing"
)

// Protocol is what Listen and Dial are given. It is a StreamProtocol or a
// Transport; anything else is refused by name. The built-in protocols and a
// stranger's use the same interfaces.
type Protocol interface {
	// Name is what Session.Transport and the statistics call it: "tcp", "ws".
	Name() string
}

// Match is a StreamProtocol's verdict on the first bytes of a connection.
type Match uint8

const (
	MatchNo   Match = iota // these bytes are not this protocol's
	MatchMore              // too few bytes to tell
	MatchYes               // this protocol's
)

// StreamProtocol speaks over the stream sockets that the engine's reactor
// drives. One value serves any number of connections.
type StreamProtocol interface {
	Protocol

	// Match judges the first bytes of an accepted connection. It is asked only
	// when a listener has several stream protocols. They are asked in the order
	// of Listen's arguments until one says MatchYes, which gets the connection,
	// or MatchMore, which is asked again when more bytes are there: it is
	// passed over only when 4 KiB are too few for it. first is borrowed and
	// never empty. Match depends on nothing but first: Listen asks it, too,
	// to find protocols that no connection could reach.
	Match(first []byte) Match

	// Accept returns the codec of a new accepted session; a codec without
	// state of its own may be shared between sessions. It runs on the
	// session's loop, and must not block.
	Accept(s *Session) Codec

	// Connect makes the client's handshake on a fresh blocking connection to
	// addr, on the caller's goroutine, and returns the codec and the bytes that
	// were read beyond the handshake. The engine closes conn when it fails, and
	// interrupts it when ctx ends. limits are the engine's.
	Connect(ctx context.Context, conn net.Conn, addr string, limits Limits) (codec Codec, rest []byte, err error)
}

// Codec is the per-session state of a StreamProtocol: it turns the session's
// bytes into messages and messages into bytes.
type Codec interface {
	// Decode looks at b, the bytes that arrived and are not yet consumed, and
	// takes n of them. ok says that m holds a message, whose bytes may alias b
	// or the codec's own memory until the next call; !ok with n > 0 means that
	// something was consumed that the application doesn't see (a ping, a
	// fragment, a handshake); n == 0 with a nil error asks for more bytes, and
	// seen then says at the next call how many of the same bytes were already
	// looked at (see framing.Framer). Decode may write to b.
	//
	// It runs on the session's loop, one call at a time, and may call the
	// session's SendControl and Establish. An error ends the session with that
	// reason, after Goodbye and everything queued before it.
	Decode(s *Session, b []byte, seen int, m *framing.Message) (n int, ok bool, err error)

	// Append appends m's encoding to dst, as append does. It runs under the
	// session's outbox lock on any goroutine, never two calls at a time, and at
	// the same time as Decode: it must not call methods of the session, nor
	// write what Decode reads.
	Append(dst []byte, m *framing.Message) ([]byte, error)

	// Goodbye appends the bytes by which this protocol ends a conversation for
	// this reason: a WebSocket Close frame; nothing for packets. It is called
	// as Append is, at most once, after the last Append. During a handshake it
	// is a refusal: an HTTP error.
	Goodbye(dst []byte, reason error) []byte
}

// StatelessCodec is implemented by a Codec whose Append depends on nothing that
// earlier calls left behind: several may run at a time, and what they return may
// be written in another order than it was made. Such a session's replies to many
// messages that came at once are encoded without its outbox lock.
type StatelessCodec interface {
	Codec
	// StatelessAppend does nothing: it makes the promise.
	StatelessAppend()
}

// SizedCodec is implemented by a Codec that can tell from the start of a frame how
// long it is. The block for a large frame then grows to that size, and not to the
// next power of two above it.
type SizedCodec interface {
	Codec
	// Need returns the size in bytes of the frame at the start of b, of which
	// Decode has found that it isn't whole; 0 where b doesn't tell. It runs as
	// Decode does and changes nothing. What it says is a hint: no more is
	// allocated than four times the bytes that have arrived and 64 KiB, and nothing
	// for a frame above Config.MaxMessageSize.
	Need(b []byte) int
}

// Handshaker is implemented by a Codec that must exchange bytes before messages
// can flow. Its session opens when the codec calls Session.Establish, within
// Config.HandshakeTimeout. A Codec without it is open from the start.
type Handshaker interface {
	// NeedsHandshake reports whether the session isn't open yet. It is asked
	// once, right after Accept.
	NeedsHandshake() bool
}

// Transport brings sockets of its own, such as QUIC's. Its connections become
// sessions through Host.Open, and its goroutines deliver messages through
// Session.Deliver.
type Transport interface {
	Protocol

	// Listen binds addr ("host:port", the port never 0 unless this transport
	// is alone on the listener) and serves it in goroutines of its own until
	// the Endpoint is closed. A bind error is returned, not logged.
	Listen(host *Host, addr string) (Endpoint, error)

	// Dial connects to addr, makes the handshake on the caller's goroutine,
	// and opens a session by host.Open.
	Dial(ctx context.Context, host *Host, addr string) (*Session, error)
}

// Endpoint is a Transport's listening socket.
type Endpoint interface {
	// Addr is the bound address.
	Addr() net.Addr
	// StopAccepting refuses new connections; established ones go on. It
	// doesn't block, and may be called again.
	StopAccepting()
	// Close releases the socket and waits for the endpoint's goroutines. The
	// engine calls it after every session of the endpoint has ended.
	Close() error
}

// Link is the sending half of a session whose socket is a Transport's.
// Its methods are called from any goroutine, must not block, SendContext
// excepted, and may be called at the same time.
type Link interface {
	// Send encodes m and queues it, copying what it keeps; nothing of it may
	// be written before Flush. It bounds what it queues by the session's
	// Limits (Outbox does both).
	Send(m *framing.Message) error

	// SendContext is Send that waits for space below Limits.OutboxLimit instead of
	// applying Limits.SlowConsumer. When ctx ends first it returns ctx's cause.
	SendContext(ctx context.Context, m *framing.Message) error

	// Flush starts writing what is queued, on the link's own goroutine. The
	// engine calls it after a Send, or once after a batch of them.
	Flush()

	// Close starts the end of the connection: with a nil-safe orderly reason
	// what is queued is written within Limits.LingerTimeout and the protocol's
	// goodbye follows; if abort, the connection is dropped at once. When the
	// connection has ended the link calls Session.Ended, once, whether or not
	// Close was called. Close may be called more than once; a later abort
	// overrides a lingering close.
	Close(reason error, abort bool)

	// PauseReading(true) asks the link to take no more bytes from the peer,
	// so that the transport's own flow control holds it; false lets it go on.
	// Deliver blocks on its own account; this is for Session.Pause.
	PauseReading(paused bool)
}

// Host is the engine as a Transport sees it.
type Host struct {
	engine   *Engine
	listener *Listener // nil for a dialed session
	name     string
}

// Limits returns the engine's limits with every default filled in.
func (h *Host) Limits() Limits { return h.engine.lim }

// OpenInfo describes a connection that becomes a session.
type OpenInfo struct {
	Remote netip.AddrPort // the peer's address
	Local  netip.AddrPort // this side's
	Dialed bool           // this side opened the connection

	// Admitted says that Host.Admit let the connection in, by the same Remote.
	Admitted bool
}

// Admit asks, for a Transport, whether a connection of a peer at remote may
// begin its handshake: the engine counts it for Config.MaxSessions,
// MaxSessionsPerAddr, AcceptRate and MaxHandshakes. An error, ErrRefused or ErrShutdown with
// details, is counted already: the Transport turns the peer away before it has spent anything. After nil
// it must call Open with OpenInfo.Admitted, or Abandon, once. It doesn't block.
func (h *Host) Admit(remote netip.AddrPort) error {
	e := h.engine
	err := e.admit(remote.Addr())
	if err == nil && !e.admission.beginHandshake(e.cfg.MaxHandshakes) {
		e.release(remote.Addr())
		err = errMaxHandshakes
	}
	if err != nil {
		e.countRefused(err, remote, h.listener)
	}
	return err
}

// Abandon ends what Admit began, of a connection that ended for that reason
// before it became a session; it is counted as refused.
func (h *Host) Abandon(remote netip.AddrPort, reason error) {
	h.engine.admission.endHandshake()
	h.engine.release(remote.Addr())
	h.engine.countRefused(reason, remote, h.listener)
}

// Open makes a session of a connection whose handshake is done. OnOpen is
// called soon after, before any message. It may wait for room in the core's
// ring, and fails with ErrShutdown or ErrRefused when the session is not
// admitted, in which case link isn't used.
func (h *Host) Open(link Link, info OpenInfo) (*Session, error) {
	return openLink(h.engine, h, link, info)
}

// Refused counts a connection that ended before it became a session, by the
// reason why.
func (h *Host) Refused(reason error) { h.engine.countRefused(reason, netip.AddrPort{}, h.listener) }
