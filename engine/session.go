package engine

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/framing"
)

// ID identifies a session within its engine: 8 bits of core, 32 of generation, 24 of
// slot. A slot is used again; an ID is not, until a slot has had 2^32 sessions. 0 is no
// session.
type ID uint64

// Session is a connection to one peer, over any transport. Any goroutine may call its
// methods. They do not block unless their documentation says so.
//
// An idle session has no buffer. Over TCP it takes this struct, its connection's struct,
// 8 bytes in the descriptor table and 16 in the slot table.
type Session struct {
	// Set before the session is published.
	core      *core
	conn      connection
	listener  *Listener       // nil for a dialed session
	transport *transportStats // name and counters of its protocol; nil until the protocol is known
	extra     atomic.Pointer[extra]
	id        ID
	remote    netip.AddrPort

	// Read without a lock.
	closing atomic.Uint32 // closingNot, closingSends or closingAll; written under out.mu
	reading atomic.Int32  // reasons not to read; 0 means that the session is read
	corked  atomic.Bool   // the consumer will flush; written by the consumer
	nextID  atomic.Uint32

	// Guarded by out.mu. The mutex of the outbox is the session's lock.
	phase  phase
	opened bool // whether the phase was phaseOpen at any time
	holds  int32
	out    Outbox
	ending error // the reason of the end record, or of the refusal of a refused connection
	values atomic.Pointer[[]value]
}

// connection is the connection of a session: a socketConn or a linkConn. Any goroutine
// may call its methods, which do not block, unless their comments say otherwise.
type connection interface {
	// send queues m, copied, and starts writing unless the session is corked.
	send(m *framing.Message) error
	// sendContext is send that waits for space in the outbox until ctx ends.
	sendContext(ctx context.Context, m *framing.Message) error
	// sendFrame is send of f's message, by reference.
	sendFrame(f *Frame) error
	// sendOwned is send of m, whose payload is not copied. If it returns nil, release is
	// called once, on a goroutine of its own.
	sendOwned(m *Message, release func()) error
	// flush writes the bytes that were queued while the session was corked.
	flush()
	// replyBuffer returns the open buffer for replies to m if m is the message of the
	// running callback, else nil.
	replyBuffer(m *framing.Message) *replyBuffer
	// readingChanged is called when Session.reading becomes 0, or no longer is 0.
	readingChanged()
	// close starts to end the connection, at once if abort.
	close(reason error, abort bool)
	// drain ends the session with ErrShutdown after the messages received so far. On
	// the loop.
	drain()
	// callbackLock is held while a callback of the session runs, if several goroutines
	// run them; else it is nil.
	callbackLock() *callbackLock
	// buffered returns the bytes that wait to be written, and the input that waits to be
	// completed or handled.
	buffered() int
	localAddr() netip.AddrPort
	// remoteAddr returns the peer's address if it may have changed, else the zero AddrPort.
	remoteAddr() netip.AddrPort
	tlsState() *tls.ConnectionState
}

// value is a pair of SetValue.
type value struct {
	key, v    any
	temporary bool // until OnOpen has returned
}

// messagePool holds the messages that Send fills: a message passed to a codec escapes.
var messagePool = sync.Pool{New: func() any { return new(framing.Message) }}

// ID returns the session's ID.
func (s *Session) ID() ID { return s.id }

// Engine returns the engine that the session belongs to.
func (s *Session) Engine() *Engine { return s.core.engine }

// Transport returns the name of the session's protocol: "tcp" for packets and framings
// over TCP, "unix" over a Unix socket, "tls" over TLS; "ws" for WebSocket over TCP and Unix
// sockets, "wss" over TLS; "quic"; the name of a custom protocol, with "+tls" appended over
// TLS; "unknown" before the first bytes have decided.
func (s *Session) Transport() string {
	if s.transport == nil {
		return "unknown"
	}
	return s.transport.name
}

// RemoteAddr returns the peer's address; the zero AddrPort if it has none. Over QUIC it is
// the present one after a migration.
func (s *Session) RemoteAddr() netip.AddrPort {
	if addr := s.conn.remoteAddr(); addr.IsValid() {
		return addr
	}
	return s.remote
}

// LocalAddr returns this side's address; the zero AddrPort if it has none, and on a
// stream socket after the session has ended.
func (s *Session) LocalAddr() netip.AddrPort { return s.conn.localAddr() }

// TLS returns the state of the session's TLS connection; nil for a session without TLS.
func (s *Session) TLS() *tls.ConnectionState { return s.conn.tlsState() }

// Dialed reports whether this side opened the connection.
func (s *Session) Dialed() bool { return s.listener == nil }

// Listener returns the listener that accepted the session; nil if this side dialed.
func (s *Session) Listener() *Listener { return s.listener }

// NextID returns the next ID for a message that this side originates, counting from 1
// and never 0. Send and package mux share the counter, so the IDs of one side's messages
// are unique until 2^32 have been used.
func (s *Session) NextID() uint32 {
	for {
		if id := s.nextID.Add(1); id != 0 {
			return id
		}
	}
}

// Send queues a copy of payload as a one-way message with an ID from NextID. It never
// blocks: it returns before the message is written. Errors: the reason why the session
// ends or has ended (errors.Is ErrClosed if this side closed it), ErrTooLarge,
// ErrSlowConsumer (the session is then closed), ErrDropped, ErrWouldBlock (OutboxLimit
// bytes wait for the end of the running callback), a PanicError of the codec, and
// framing.ErrUnencodable.
func (s *Session) Send(payload []byte) error {
	return s.sendPayload(payload, func(m *framing.Message) error { return s.conn.send(m) })
}

// SendText is Send of a text message, for protocols that tell text from bytes, such as
// plain WebSocket messages: a browser gets a string. Others carry the bytes of text.
func (s *Session) SendText(text string) error {
	m := framing.Message{ID: s.NextID(), Payload: []byte(text), Text: true}
	return s.conn.send(&m)
}

// SendMessage queues a copy of m, unchanged. It never blocks. Errors are those of Send.
func (s *Session) SendMessage(m *framing.Message) error {
	if r := s.conn.replyBuffer(m); r != nil && r.append(m) {
		return nil
	}
	return s.conn.send(m)
}

// SendContext is Send that waits while the outbox has no space below OutboxLimit, under
// any Config.SlowConsumer. If ctx ends first, it returns ctx's cause and queues nothing.
// It blocks: do not call it from a callback, which would block the thread that makes the
// space.
func (s *Session) SendContext(ctx context.Context, payload []byte) error {
	return s.sendPayload(payload, func(m *framing.Message) error { return s.conn.sendContext(ctx, m) })
}

// SendMessageContext is SendMessage that waits as SendContext does. Do not call it from a
// callback.
func (s *Session) SendMessageContext(ctx context.Context, m *framing.Message) error {
	return s.conn.sendContext(ctx, m)
}

// sendPayload sends payload as a one-way message, by calling send.
func (s *Session) sendPayload(payload []byte, send func(m *framing.Message) error) error {
	m := messagePool.Get().(*framing.Message)
	*m = framing.Message{ID: s.NextID(), Payload: payload}
	err := send(m)
	*m = framing.Message{}
	messagePool.Put(m)
	return err
}

// Close ends the session: queued bytes are written, then the protocol's close is sent,
// then the connection ends, all within Config.LingerTimeout. OnClose gets ErrClosed, and
// OnMessage is not called any more. Close returns nil at once; a second call does nothing.
func (s *Session) Close() error {
	s.conn.close(ErrClosed, false)
	return nil
}

// CloseWith is Close with a reason, which OnClose gets and from which the protocol
// derives its close code. A nil reason means ErrClosed.
func (s *Session) CloseWith(reason error) {
	if reason == nil {
		reason = ErrClosed
	}
	s.conn.close(reason, false)
}

// Abort drops the connection and all queued bytes at once. OnClose gets reason, or
// ErrClosed if it is nil.
func (s *Session) Abort(reason error) {
	if reason == nil {
		reason = ErrClosed
	}
	s.conn.close(reason, true)
}

// Hold keeps the session open for later replies: when the peer ends its side, or the
// engine shuts down, the orderly end waits for the Release of every Hold. Close and
// errors do not wait.
func (s *Session) Hold() {
	s.out.mu.Lock()
	s.holds++
	s.out.mu.Unlock()
}

// Release undoes one Hold. A Release without a Hold does nothing but log a warning, once
// for the engine.
func (s *Session) Release() {
	s.out.mu.Lock()
	if s.holds == 0 {
		s.out.mu.Unlock()
		s.core.engine.misuse(s, "Release without Hold")
		return
	}
	s.holds--
	end := s.holds == 0 && s.phase == phaseHeld
	reason := s.ending
	s.out.mu.Unlock()
	if end {
		s.conn.close(reason, false)
	}
}

// Value returns the value that SetValue stored under key, or nil.
func (s *Session) Value(key any) any {
	if p := s.values.Load(); p != nil {
		for _, kv := range *p {
			if kv.key == key {
				return kv.v
			}
		}
	}
	return nil
}

// SetValue stores v under key. Keys compare like those of a context: use a type of your
// own. It copies the list of values, so use few values and set them rarely.
func (s *Session) SetValue(key, v any) { s.setValue(value{key, v, false}) }

func (s *Session) setValue(v value) {
	for {
		old := s.values.Load()
		values := []value{v}
		if old != nil {
			for _, kv := range *old {
				if kv.key != v.key {
					values = append(values, kv)
				}
			}
		}
		if s.values.CompareAndSwap(old, &values) {
			return
		}
	}
}

// dropTemporary removes the values that were set until OnOpen has returned.
func (s *Session) dropTemporary() {
	for {
		old := s.values.Load()
		if old == nil || !slices.ContainsFunc(*old, func(v value) bool { return v.temporary }) {
			return
		}
		left := slices.DeleteFunc(slices.Clone(*old), func(v value) bool { return v.temporary })
		kept := &left
		if len(left) == 0 {
			kept = nil
		}
		if s.values.CompareAndSwap(old, kept) {
			return
		}
	}
}

// Err returns nil while the session can send, else the reason why it cannot.
func (s *Session) Err() error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return s.out.refused
}

// Limits returns the session's limits: its listener's, or the engine's. They are
// shared: do not write to them.
func (s *Session) Limits() *Limits { return s.out.limits }

// visible reports whether applications may see s: its handshake has been completed.
func (s *Session) visible() bool {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return s.opened
}

// recoverPanic turns a panic of a callback, a codec or a Link into the end of
// its session. It must be deferred directly, without out.mu.
func (s *Session) recoverPanic() {
	if v := recover(); v != nil {
		err := newPanicError(v)
		s.notePanic(err)
		s.conn.close(err, false)
	}
}

// newPanicError must be called in the deferred function that recovered v.
func newPanicError(v any) *PanicError { return &PanicError{Value: v, Stack: debug.Stack()} }

// noteIfPanic calls notePanic if err is a panic.
func (s *Session) noteIfPanic(err error) {
	var p *PanicError
	if errors.As(err, &p) {
		s.notePanic(p)
	}
}

// notePanic counts and logs a panic. Without out.mu: the logger may be third-party code.
func (s *Session) notePanic(err *PanicError) {
	s.core.stats.panics.Add(1)
	s.core.engine.cfg.Logger.Error("handler panicked", "session", s.id, "transport", s.Transport(),
		"panic", err.Value, "stack", string(err.Stack))
}
