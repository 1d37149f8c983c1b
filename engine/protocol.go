package engine

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"

	"github.com/millrace/millrace/framing"
)

// Protocol is an argument of Listen and Dial. It is a StreamProtocol or a Transport; any
// other type is an error. Third-party protocols use the same interfaces as the built-in
// ones, except that packets also have a specialised decoder.
type Protocol interface {
	// Name is the protocol's name in Session.Transport and in the statistics: "tcp", "ws".
	Name() string
}

// Match, for protocol authors, is a StreamProtocol's decision about the first bytes of a
// connection.
type Match uint8

const (
	MatchNo   Match = iota // not this protocol
	MatchMore              // too few bytes to decide
	MatchYes               // this protocol
)

// StreamProtocol, for protocol authors, speaks over the stream sockets that the engine's
// reactor drives. One value serves any number of connections.
type StreamProtocol interface {
	Protocol

	// Match reports whether the first bytes of an accepted connection are this
	// protocol's. The engine calls it if a listener has several stream protocols, or
	// TLS (for connections without it), in the order of Listen's arguments. The first
	// protocol that returns MatchYes gets the connection. One that returns MatchMore is
	// called again with more bytes; the next protocol is tried only if 4 KiB are not
	// enough for it. first is borrowed and never empty. The result must depend on first
	// only: Listen also calls Match, to find protocols that no connection could reach.
	// It must not block.
	Match(first []byte) Match

	// Accept returns the codec of a new accepted session, never nil. Sessions may share
	// a codec without state. It runs on the session's loop, and must not block.
	Accept(c *Control) Codec

	// Connect makes the client's handshake on a new blocking connection to addr, on the
	// goroutine of Dial, and returns the codec and the bytes that were read after the
	// handshake. If it fails, the engine closes conn; if ctx ends, the engine interrupts
	// conn's calls. limits are the engine's.
	Connect(ctx context.Context, conn net.Conn, addr string, limits Limits) (codec Codec, rest []byte, err error)
}

// Codec, for protocol authors, is the per-session state of a StreamProtocol. It decodes
// the session's bytes into messages and encodes messages.
type Codec interface {
	// Decode consumes n bytes of b, the bytes that arrived and are not yet consumed. If
	// ok, m is a message, whose bytes may alias b or the codec's own memory until the
	// next call. If !ok and n > 0, it consumed bytes that the application does not see
	// (a ping, a fragment, a handshake). n == 0 with a nil error means that more bytes
	// are needed; at the next call seen is the number of bytes of b that this call has
	// examined (see framing.Framer). Decode may write to b.
	//
	// It runs on the session's loop, one call at a time for a session; Decode of another
	// session of the core may run at the same time. It must not block. An error ends the session with that
	// reason; queued data and Goodbye are written first.
	Decode(c *Control, b []byte, seen int, m *framing.Message) (n int, ok bool, err error)

	// Append appends m's encoding to dst, as the built-in append does. It runs under the
	// session's outbox lock on any goroutine, one call at a time, but concurrently with
	// Decode: it must not block, call methods of the session, or write data that Decode
	// reads. It must not keep m or dst.
	Append(dst []byte, m *framing.Message) ([]byte, error)

	// Goodbye appends the bytes by which this protocol closes a session for this
	// reason: a WebSocket close frame; nothing for packets. During a handshake it
	// appends a refusal, such as an HTTP error. It is called under the same rules as
	// Append, at most once, after the last Append.
	Goodbye(dst []byte, reason error) []byte
}

// StatelessCodec, for protocol authors, is implemented by a Codec whose Append may be
// stateless: it does not depend on earlier calls, several calls may run at a time, and
// their results may be written in another order. Replies of such a session to messages
// that arrive together are encoded without its outbox lock.
type StatelessCodec interface {
	Codec
	// StatelessAppend reports whether Append is stateless in this session. It is called
	// once, on the session's loop, when the session opens: a handshake may decide it.
	// It must not block.
	StatelessAppend() bool
}

// SizedCodec, for protocol authors, is implemented by a Codec that finds the size of a
// frame from its start. The block for a large frame then grows to that size, and not to
// the next power of two above it.
type SizedCodec interface {
	Codec
	// Need returns the size in bytes of the incomplete frame at the start of b, or 0 if
	// b is too short to find it. It is called under the same rules as Decode and must
	// change nothing. The result is a hint: the engine allocates at most four times the
	// bytes that have arrived plus 64 KiB, and ignores frames above
	// Config.MaxMessageSize plus 64 KiB.
	Need(b []byte) int
}

// PartialCodec, for protocol authors, is implemented by a Codec that keeps the start of a
// message in memory of its own, such as the fragments of a WebSocket message.
// Config.PartialTimeout counts for it.
type PartialCodec interface {
	Codec
	// Partial returns the bytes that the codec keeps of an incomplete message, and
	// whether there is one. It is called under the same rules as Decode.
	Partial() (bytes int, begun bool)
}

// Handshaker, for protocol authors, is implemented by a Codec that must exchange bytes
// before messages can flow. Its session opens when the codec calls Control.Establish,
// within Config.HandshakeTimeout. A session whose Codec is no Handshaker is open at once.
type Handshaker interface {
	// NeedsHandshake reports whether the session must make a handshake first. It is
	// called once, right after Accept.
	NeedsHandshake() bool
}

// Transport, for protocol authors, is a Protocol with sockets of its own, such as QUIC.
// Its connections become sessions through Host.Open, and its goroutines deliver messages
// through the Port of each session, or a Delivery.
type Transport interface {
	Protocol

	// Listen binds addr ("host:port", the port never 0 unless this transport
	// is alone on the listener) and serves it in goroutines of its own until
	// the Endpoint is closed. A bind error is returned, not logged.
	Listen(host *Host, addr string) (Endpoint, error)

	// Dial connects to addr, makes the handshake on the caller's goroutine, and opens a
	// session by host.Open. It blocks until then, or until ctx ends.
	Dial(ctx context.Context, host *Host, addr string) (*Port, error)
}

// Endpoint, for protocol authors, is a Transport's listening socket.
type Endpoint interface {
	// Addr is the bound address.
	Addr() net.Addr
	// StopAccepting refuses new connections; established ones continue. It must not
	// block, and may be called again.
	StopAccepting()
	// Close releases the socket and waits for the endpoint's goroutines. The engine
	// calls it after every session of the endpoint has ended.
	Close() error
}

// Link, for protocol authors, is the sending half of a session whose socket is a
// Transport's. Any goroutine may call its methods, also concurrently. They must not
// block, except SendContext.
type Link interface {
	// Send encodes m and queues it, and copies the bytes that it keeps; nothing of it
	// may be written before Flush. It bounds the queue by the session's Limits (Outbox
	// does both).
	Send(m *framing.Message) error

	// SendContext is Send that waits for space below Limits.OutboxLimit instead of
	// applying Limits.SlowConsumer. If ctx ends first, it returns ctx's cause.
	SendContext(ctx context.Context, m *framing.Message) error

	// Flush starts to write the queued bytes, on the link's own goroutine. The engine
	// calls it after a Send, or once after a batch of them.
	Flush()

	// Close starts to end the connection. If abort is false, write the queued bytes
	// within Limits.LingerTimeout, then send the protocol's close. If abort is true,
	// drop the connection at once. reason is never nil. When the connection has ended,
	// the transport must call Port.Ended once, even if Close was not called. Close may be
	// called more than once; a later abort overrides an orderly close.
	Close(reason error, abort bool)

	// PauseReading(true) makes the link stop reading from the peer, so that the
	// transport's own flow control stops the peer; false makes it continue. The engine
	// calls it for Session.Pause and the rates; a full ring blocks Deliver instead.
	PauseReading(paused bool)

	// RemoteAddr returns the peer's present address, which may change in a QUIC migration
	// (RFC 9000 section 9), for Session.RemoteAddr. The zero AddrPort means that of
	// OpenInfo. The limits of addresses count that of OpenInfo.
	RemoteAddr() netip.AddrPort

	// TLS returns the state of the connection's TLS, for Session.TLS; nil without it.
	TLS() *tls.ConnectionState
}

// Host, for protocol authors, is the engine's interface for a Transport.
type Host struct {
	engine   *Engine
	listener *Listener        // nil for a dialed session
	setup    func(s *Session) // of DialConfig; nil for an accepted session
	name     string
}

// Limits returns the limits of the host's sessions, with every default filled in.
func (h *Host) Limits() Limits { return *h.engine.limitsOf(h.listener) }

// Logger returns the engine's logger; never nil.
func (h *Host) Logger() *slog.Logger { return h.engine.cfg.Logger }

// TLS returns the TLS protocol of the listener, whose certificates a Transport with TLS of
// its own should use; nil if the listener has none.
func (h *Host) TLS() *TLSProtocol {
	if h.listener == nil {
		return nil
	}
	return h.listener.tls
}

// OpenInfo, for protocol authors, describes a connection that becomes a session.
type OpenInfo struct {
	Remote netip.AddrPort // the peer's address; zero if it has none
	Local  netip.AddrPort // this side's address; zero if it is unknown
	Dialed bool           // whether this side opened the connection

	// Context ends when the connection does. Authorizers get a context that is derived
	// from it. Nil means one that does not end.
	Context context.Context

	// Admitted is set if Host.Admit has admitted the connection, with the same Remote.
	Admitted bool
}

// Admit is called by a Transport before the handshake of a connection of a peer at
// remote. The engine counts it against Config.MaxSessions, MaxSessionsPerAddr, AcceptRate
// and MaxHandshakes. On an error, which wraps ErrRefused or ErrShutdown and is counted
// already, the Transport must reject the connection before it allocates anything for it.
// After nil it must call Open with OpenInfo.Admitted, or Abandon, once. Admit does not
// block.
func (h *Host) Admit(remote netip.AddrPort) error {
	e := h.engine
	err := h.admit(remote.Addr())
	if err == nil && !e.admission.beginHandshake(e.cfg.MaxHandshakes) {
		h.release(&OpenInfo{Remote: remote})
		err = errMaxHandshakes
	}
	if err != nil {
		e.countRefused(err, remote, h.listener)
	}
	return err
}

// admit counts a session of the host's listener and protocol.
func (h *Host) admit(addr netip.Addr) error {
	if err := h.engine.admit(h.listener, addr); err != nil {
		return err
	}
	if !h.listener.policy.enterProtocol(h.name) {
		h.engine.release(h.listener, addr)
		return errMaxOfProtocol
	}
	return nil
}

// admitLink is admit for a connection that Admit has not admitted.
func (h *Host) admitLink(info *OpenInfo) error {
	switch {
	case info.Dialed:
		return h.engine.admitDialed()
	case info.Admitted:
		return nil
	}
	return h.admit(info.Remote.Addr())
}

// release undoes admit, or admitLink of a dialed connection.
func (h *Host) release(info *OpenInfo) {
	if info.Dialed {
		h.engine.release(nil, netip.Addr{})
		return
	}
	h.listener.policy.leaveProtocol(h.name)
	h.engine.release(h.listener, info.Remote.Addr())
}

// Abandon undoes Admit for a connection that ended, for that reason, before it became a
// session. It counts the connection as refused. It does not block.
func (h *Host) Abandon(remote netip.AddrPort, reason error) {
	h.engine.admission.endHandshake()
	h.release(&OpenInfo{Remote: remote})
	h.engine.countRefused(reason, remote, h.listener)
}

// Open makes a session from a connection whose handshake is done, and returns its Port. OnOpen is called soon
// after, before any message. Open may block until the Authorizers have decided, and until
// the core's ring has space: do not call it from a callback. It fails with ErrShutdown or ErrRefused if the session is not
// admitted, and with ErrClosed if the engine has closed; link is then not used.
func (h *Host) Open(link Link, info OpenInfo) (*Port, error) {
	return openLink(h, link, info)
}
