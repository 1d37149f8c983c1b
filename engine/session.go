package engine

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/reactor"
	"github.com/millrace/millrace/internal/wheel"
)

// ID names a session within its engine: 8 bits of core, 32 of generation, 24 of
// slot. A slot is used again, an ID is not (until a slot has seen 2^32
// sessions). 0 is no session.
type ID uint64

// Session is one peer's conversation, on whatever transport. Its methods may be
// called from any goroutine and don't block, except where they say so.
//
// An idle session holds no buffer: this struct, 8 bytes in the descriptor table
// and 16 in the slot table are all it costs.
type Session struct {
	// Set before the session is published.
	core      *core
	listener  *Listener       // nil for a dialed session
	transport *transportStats // name and counters of its protocol
	link      *attachedLink   // the transport's, nil for a socket of the reactor
	id        ID
	remote    netip.AddrPort

	values atomic.Pointer[[]value]
	nextID atomic.Uint32

	// Shared flags.
	closing    atomic.Bool  // phase >= phaseClosing: nothing can be sent any more
	muted      atomic.Bool  // this side ended the session: no callback but OnClose runs any more
	corked     atomic.Bool  // the consumer will flush; set by the consumer
	blocked    atomic.Bool  // the socket is full; the loop will flush when it has room
	lastWrite  atomic.Int64 // tick of the last bytes that a full socket took
	readBlocks atomic.Int32 // reasons not to read: pauseBlock for each Pause, engineBlock for each of the engine's own

	// Read state: owned by the loop.
	conn      reactor.Conn
	tls       *tlsLayer // nil without TLS; set under out.mu too
	codec     Codec     // nil until the protocol is known; then read only
	tail      *block
	seen      int // bytes of tail that Decode has looked at
	stuck     *largeMessage
	timer     wheel.Timer[Session]
	lastRead  int64 // tick
	phaseEnds int64 // deadlines, in ticks; 0 means none
	writeEnds int64
	refusal   error     // why it only lives to say no
	throttle  *throttle // nil without rates
	owed      uint8
	packets   bool // codec is packets: what the hot path knows by heart
	stateless bool // codec is a StatelessCodec
	opened    bool // Establish was called
	sniffing  bool // first bytes came, and were too few
	shutdown  bool // the session ends when unparsed is handled
	unread    bool // the socket may hold bytes that came while reading was blocked
	unparsed  bool // tail may hold whole frames
	toTheEnd  bool // the poller said that a short read doesn't mean drained
	eof       bool // the socket was read to its end
	inputDone bool // what still arrives is dropped
	headerDue bool // a PROXY header must come first
	stalled   bool // in core.stalledQueue
	lingering bool
	destroyed bool

	// Write state: guarded by out.mu.
	out       Outbox // out.refused is why the session ends
	phase     phase
	writing   bool // somebody is in flushLocked
	broken    bool // a write failed
	laned     bool // the consumer's lane is open for it, in front of out
	retry     bool // there may be room since the writer's last try
	congested bool // above the outbox's soft mark: one of readBlocks
	ended     bool // the end waits for holds
	holds     int32
	ending    error // why the end comes after the messages
}

// value is a pair of SetValue.
type value struct{ key, v any }

// messagePool lends out the messages that Send fills; passing one to a codec
// makes it escape.
var messagePool = sync.Pool{New: func() any { return new(framing.Message) }}

// ID returns the session's number.
func (s *Session) ID() ID { return s.id }

// Engine returns the engine that the session belongs to.
func (s *Session) Engine() *Engine { return s.core.engine }

// Transport names the session's protocol: "tcp", "tls", "ws", "wss", "quic".
func (s *Session) Transport() string {
	if s.transport == nil {
		return "unknown" // its first bytes have not come yet
	}
	return s.transport.name
}

// RemoteAddr is the peer's address; the zero AddrPort where it has none.
func (s *Session) RemoteAddr() netip.AddrPort { return s.remote }

// LocalAddr is this side's address. On a socket of the reactor it asks the
// system; the zero AddrPort if the session has ended.
func (s *Session) LocalAddr() netip.AddrPort {
	if s.link != nil {
		return s.link.local
	}
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.phase == phaseEnded {
		return netip.AddrPort{} // the descriptor may be somebody else's by now
	}
	a, _ := reactor.LocalAddr(s.conn.FD)
	return a
}

// Dialed reports whether this side opened the connection.
func (s *Session) Dialed() bool { return s.listener == nil }

// NextID returns the next number for a message that this side originates,
// counting from 1 and never 0. Send and package mux share it, so numbers are
// unique among the messages of one side until 2^32 have been used.
func (s *Session) NextID() uint32 {
	for {
		if id := s.nextID.Add(1); id != 0 {
			return id
		}
	}
}

// Send queues payload, copied, as a one-way message with an ID from NextID, and
// returns without waiting for it to be written: a nil error says that it is queued,
// and what is queued is dropped if the connection breaks. Errors: the reason why the
// session ends or has ended (errors.Is ErrClosed if this side closed it),
// ErrTooLarge, ErrSlowConsumer (the session is being closed), and
// framing.ErrUnencodable.
func (s *Session) Send(payload []byte) error {
	m := messagePool.Get().(*framing.Message)
	*m = framing.Message{ID: s.NextID(), Payload: payload}
	err := s.SendMessage(m)
	*m = framing.Message{}
	messagePool.Put(m)
	return err
}

// SendMessage queues m, copied, as it is; errors as for Send.
func (s *Session) SendMessage(m *framing.Message) error {
	if s.link != nil {
		return s.sendLink(m)
	}
	s.out.mu.Lock()
	err := s.sendLocked(m)
	s.out.mu.Unlock()
	return err
}

func (s *Session) sendLocked(m *framing.Message) error {
	if s.phase == phaseHandshake {
		return ErrWouldBlock // a handler can't see such a session yet
	}
	if err := s.out.append(s.codec, m); err != nil {
		if err == ErrSlowConsumer {
			if s.laned {
				return ErrWouldBlock // the peer isn't slow, but the callback under way
			}
			s.failLocked(err)
		}
		if p, ok := err.(*PanicError); ok && s.out.refused == nil { //nolint:errorlint // as encode made it
			s.notePanicLocked(p)
			s.endLocked(p, false)
		}
		return err
	}
	s.congestLocked()
	s.kickLocked()
	return nil
}

// congestLocked stops the reading when more than the soft mark is queued. Only
// the side that accepted stops: if both did, two peers that write more than they
// read would wait for each other for ever.
func (s *Session) congestLocked() {
	if !s.congested && s.out.pending > s.out.limits.OutboxSoftMark && !s.Dialed() {
		s.congested = true
		s.blockRead()
	}
}

// sendLink is SendMessage on a Transport's session.
func (s *Session) sendLink(m *framing.Message) error {
	if s.closing.Load() {
		return s.Err()
	}
	if s.sendDirectly(m) {
		return nil
	}
	if err := s.giveLink(m); err != nil {
		if err == ErrSlowConsumer {
			s.end(err, true)
		}
		if p, ok := err.(*PanicError); ok && !s.closing.Load() { //nolint:errorlint // as encode and giveLink made it
			s.notePanic(p)
			s.end(p, true)
		}
		return err
	}
	s.transport.messagesOut.Add(1)
	if !s.corked.Load() {
		s.flushLink()
	}
	return nil
}

// Close ends the session: what was queued before is written, the protocol's
// goodbye follows, then the connection ends, all within Config.LingerTimeout.
// OnClose gets ErrClosed, and no OnMessage comes any more. It returns at once;
// a second call does nothing.
func (s *Session) Close() { s.end(ErrClosed, false) }

// CloseWith is Close with a reason that OnClose gets, and from which the
// protocol derives its close code. A nil reason is ErrClosed.
func (s *Session) CloseWith(reason error) {
	if reason == nil {
		reason = ErrClosed
	}
	s.end(reason, false)
}

// Abort drops the connection at once with whatever is queued. OnClose gets
// reason, or ErrClosed for nil.
func (s *Session) Abort(reason error) {
	if reason == nil {
		reason = ErrClosed
	}
	s.end(reason, true)
}

// Pause stops reading from the peer, who will feel its transport's flow
// control. Messages that were received already still arrive, at most a ring
// full. Each Pause needs one Resume.
func (s *Session) Pause() { s.addReadBlock(pauseBlock) }

// Resume undoes one Pause. Without a Pause to undo it does nothing, and the engine
// logs the first such call.
func (s *Session) Resume() { s.resume() }

// Hold keeps the session open for replies that are still being worked on: when
// the peer ends its side, or the engine shuts down, the orderly end waits for
// the Release of every Hold. Close and errors don't wait.
func (s *Session) Hold() {
	s.out.mu.Lock()
	s.holds++
	s.out.mu.Unlock()
}

// Release undoes one Hold.
func (s *Session) Release() {
	s.out.mu.Lock()
	s.holds--
	end := s.holds == 0 && s.ended
	reason := s.ending
	s.out.mu.Unlock()
	if end {
		s.end(reason, false)
	}
}

// Value returns what SetValue stored under key, or nil.
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

// SetValue stores v under key. Keys compare like those of a context: use a type
// of your own. It copies the list of values, so keep few and set them rarely.
func (s *Session) SetValue(key, v any) {
	for {
		old := s.values.Load()
		values := []value{{key, v}}
		if old != nil {
			for _, kv := range *old {
				if kv.key != key {
					values = append(values, kv)
				}
			}
		}
		if s.values.CompareAndSwap(old, &values) {
			return
		}
	}
}

// Err is nil while the session can send, and else the reason why it can't.
func (s *Session) Err() error {
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	return s.out.refused
}

// Limits returns the engine's limits with every default filled in. They are
// shared: don't write to them.
func (s *Session) Limits() *Limits { return &s.core.engine.lim }
