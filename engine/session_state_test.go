package engine

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// model is the allowed behavior of a session, seen from its handler and from its peer. It
// fails the test if the session does anything else.
type model struct {
	t      *testing.T
	opened int
	closed int
	next   uint32 // ID of the message that OnMessage must bring
	reason error
	within bool // a callback runs

	queued   []uint32 // IDs that Send or Reply accepted, in order
	onOpen   func(s *Session)
	onSwitch func(s *Session, m *framing.Message) // in OnMessage
}

func (m *model) enter() func() {
	if m.within {
		m.t.Error("two callbacks at a time")
	}
	m.within = true
	return func() { m.within = false }
}

func (m *model) OnOpen(s *Session) {
	defer m.enter()()
	if m.opened++; m.opened > 1 || m.closed > 0 {
		m.t.Error("OnOpen again, or after OnClose")
	}
	if m.onOpen != nil {
		m.onOpen(s)
	}
}

func (m *model) OnMessage(s *Session, msg *framing.Message) {
	defer m.enter()()
	if m.opened != 1 || m.closed > 0 {
		m.t.Errorf("message %d after %d OnOpen and %d OnClose", msg.ID, m.opened, m.closed)
	}
	if msg.ID != m.next {
		m.t.Errorf("message %d, want %d", msg.ID, m.next)
	}
	m.next++
	m.onSwitch(s, msg)
}

func (m *model) OnClose(_ *Session, reason error) {
	defer m.enter()()
	m.reason = reason
	if m.closed++; m.closed > 1 || m.opened != 1 || reason == nil {
		m.t.Errorf("OnClose %d times after %d OnOpen, reason %v", m.closed, m.opened, reason)
	}
}

// walk is a seeded random walk of a session through its states.
type walk struct {
	*fakeSession
	*model
	rng    *rand.Rand
	pushed uint32 // messages that this side originated
	sent   uint32 // messages that the peer has sent
	wire   []byte // of them, not yet given to the socket
	pauses int
	holds  int
	waited int64 // ticks
	ended  bool  // this side has closed or aborted, or Shutdown came
	lossy  bool  // something happened that may lose queued messages

	sending    uint32            // the message that is being sent
	concurrent map[uint32]uint32 // messages that were sent while another one was

	owned    int32 // payloads passed to SendOwned
	released atomic.Int32
}

const pushBit = 1 << 31 // in the IDs of messages that this side originates

// act does one random thing to the session.
func (w *walk) act() {
	s := w.conn.session
	switch n := w.rng.IntN(100); {
	case n < 30: // the peer sends part of its bytes
		w.speak()
	case n < 40:
		w.step()
	case n < 44:
		w.run()
		w.atRest()
	case n < 50:
		w.speak()
	case n < 60:
		if w.rng.IntN(3) == 0 {
			w.consume()
		}
	case n < 66:
		w.push(s)
	case n < 70:
		w.space = min(w.space, w.rng.IntN(3)*w.rng.IntN(2000))
	case n < 76:
		w.makeSpace(w.rng.IntN(50_000))
	case n < 79:
		s.Pause()
		w.pauses++
	case n < 83 && w.pauses > 0:
		s.Resume()
		w.pauses--
	case n < 86:
		s.Hold()
		w.holds++
	case n < 89 && w.holds > 0:
		s.Release()
		w.holds--
	case n < 92:
		n := int64(w.rng.IntN(4))
		w.waited += n
		w.wait(n)
	case n < 97: // rarely the end, in one of its ways
		if w.rng.IntN(8) == 0 {
			w.finish(s)
		}
	default:
		s.Resume() // too often: it must do no harm
		w.pauses = max(w.pauses-1, 0)
	}
}

// meanwhile does what others may do while a goroutine writes without the lock.
func (w *walk) meanwhile(full bool) {
	during := w.during
	w.during = nil
	defer func() { w.during = during }()
	s := w.conn.session
	switch n := w.rng.IntN(40); {
	case n < 2:
		w.push(s)
	case n < 3 && w.rng.IntN(20) == 0:
		w.lossy, w.ended = true, true
		s.Abort(nil)
		w.loop(5)
	case n < 4 && w.rng.IntN(20) == 0:
		w.ended = true
		s.Close()
		w.loop(5)
	case n < 10:
		w.loop(3)
	case n < 30 && full && w.onLoop == 0:
		w.makeSpace(w.rng.IntN(5000))
	}
}

// loop runs some of the loop's tasks, unless one of them is running.
func (w *walk) loop(tasks int) {
	for ; w.onLoop == 0 && tasks > 0; tasks-- {
		w.step()
	}
}

// atRest checks what must hold when neither the loop nor the worker has anything to
// do, and the poller has reported everything: nothing waits that could be done.
func (w *walk) atRest() {
	checkState(w.conn)
	if w.conn.stage == stageGone {
		return
	}
	s, out := w.conn.session, w.conn.outputState()
	s.out.mu.Lock()
	defer s.out.mu.Unlock()
	if s.out.pending > 0 && (w.space > 0 || out != outputBlocked) {
		w.t.Errorf("%d bytes wait, the socket has space for %d, output %d", s.out.pending, w.space, out)
	}
	due := w.conn.backlog
	if w.conn.input >= inputDraining {
		due &^= dueSocket // its input is dropped as it comes
	}
	if s.reading.Load() == 0 && (due != 0 || len(w.in) > 0) {
		w.t.Errorf("backlog %b, input %d, %d bytes are not read", due, w.conn.input, len(w.in))
	}
	if congested := s.reading.Load()&readCongested != 0; congested && s.out.pending <= s.out.limits.OutboxSoftMark/2 {
		w.t.Errorf("congested by %d bytes, output %d, phase %d", s.out.pending, out, s.phase)
	} else if !congested && s.out.pending > s.out.limits.OutboxSoftMark && s.phase == phaseOpen {
		w.t.Errorf("not congested by %d bytes", s.out.pending)
	}
}

// speak sends more of the peer's messages, cut anywhere.
func (w *walk) speak() {
	if w.inErr != nil {
		return
	}
	size, count := 100, 5
	if w.rng.IntN(4) == 0 {
		size, count = 3000, 40 // fills the ring
	}
	for range w.rng.IntN(count) {
		m := &framing.Message{Type: framing.Type(w.rng.IntN(2)), ID: w.sent, Payload: payload(w.sent, w.rng.IntN(size))}
		if w.rng.IntN(50) == 0 {
			m.Payload = payload(w.sent, 40_000) // by reference
		}
		w.wire, _ = framing.AppendPacket(w.wire, m)
		w.sent++
	}
	n := w.rng.IntN(len(w.wire) + 1)
	b := w.wire[:n]
	w.wire = w.wire[n:] // first: the handler may make the peer speak
	w.send(b)
}

// sendRest sends what the peer has begun to send.
func (w *walk) sendRest() {
	for len(w.wire) > 0 {
		b := w.wire
		w.wire = nil
		w.send(b)
	}
}

// push sends a message of this side's own.
func (w *walk) push(s *Session) {
	id := pushBit | w.pushed
	w.pushed++
	w.queue(id, func() error {
		m := &framing.Message{ID: id, Payload: make([]byte, w.rng.IntN(6000))}
		switch w.rng.IntN(3) {
		case 0:
			return s.SendFrame(NewFrame(m))
		case 1:
			s.nextID.Store(id - 1)
			w.owned++
			return s.SendOwned(m.Payload, func() { w.released.Add(1) })
		}
		return s.SendMessage(m)
	})
}

// queue calls send, which sends message id, and may have others send in the middle.
func (w *walk) queue(id uint32, send func() error) {
	w.queued = append(w.queued, id)
	if w.sending != 0 {
		w.concurrent[id] = w.sending
	}
	outer := w.sending
	w.sending = id
	defer func() { w.sending = outer }()
	if send() != nil {
		w.queued = slices.Delete(w.queued, slices.Index(w.queued, id), slices.Index(w.queued, id)+1)
	}
}

// takeOver lets the reader take over in a callback, and do what comes meanwhile.
func (w *walk) takeOver() {
	k := w.core
	k.stuck.Store(k.roles.Load())
	if !k.takeOver() {
		return // it has read in this turn already
	}
	for range w.rng.IntN(6) {
		switch w.rng.IntN(8) {
		case 0:
			w.speak()
		case 1:
			w.makeSpace(w.rng.IntN(50_000))
		case 2:
			w.wait(int64(w.rng.IntN(4)))
		case 3:
			if w.rng.IntN(20) == 0 {
				w.finish(w.conn.session)
			}
		default:
			w.step()
		}
	}
	w.conn.checked()
	k.giveBack()
}

// payload returns the payload of message id from the peer.
func payload(id uint32, size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(int(id) + i)
	}
	return b
}

// reply answers in one of the ways that there are.
func (w *walk) reply(s *Session, m *framing.Message) {
	if w.core.shared != nil && w.rng.IntN(8) == 0 {
		w.takeOver()
	}
	if !bytes.Equal(m.Payload, payload(m.ID, len(m.Payload))) {
		w.t.Errorf("the payload of message %d has changed", m.ID)
	}
	if w.core.shared != nil && w.rng.IntN(30) == 0 {
		w.core.late.Store(true)
	}
	switch w.rng.IntN(4) {
	case 0:
		w.push(s)
		return
	case 1:
		w.queue(m.ID, func() error { return s.Reply(m.Clone(), m.Payload) })
	default:
		w.queue(m.ID, func() error { return s.Reply(m, m.Payload) })
	}
	if w.rng.IntN(300) == 0 {
		w.ended = true
		s.Close()
	}
}

// finish ends the session in a random way.
func (w *walk) finish(s *Session) {
	switch w.rng.IntN(7) {
	case 0:
		if w.inErr == nil {
			w.sendRest()
			w.end(io.EOF)
		}
	case 1:
		w.lossy = true
		w.end(unix.ECONNRESET)
	case 2:
		s.Close()
		w.ended = true
	case 3:
		s.CloseWith(errors.New("enough"))
		w.ended = true
	case 4:
		w.lossy = true
		s.Abort(nil)
		w.ended = true
	case 5:
		w.lossy = true
		w.writeErr = unix.EPIPE
	case 6:
		_ = w.core.loop.Trigger(shutdownTask, w.core)
		w.ended = true
	}
}

// settle ends the walk and checks the conditions at the end.
func (w *walk) settle(s *Session) {
	w.during = nil
	for ; w.pauses > 0; w.pauses-- {
		s.Resume()
	}
	for ; w.holds > 0; w.holds-- {
		s.Release()
	}
	for range 50 {
		w.makeSpace(1 << 20)
		w.run()
	}
	if w.inErr == nil {
		w.sendRest()
		w.run()
		w.sendRest()
		w.end(io.EOF)
	}
	for range 50 {
		w.makeSpace(1 << 20)
		w.run()
	}
	if w.inErr == io.EOF && w.fakeLoop.closed != 1 {
		w.t.Error("both sides have ended, but the session has not")
	}
	early := w.early && w.waited < ticksOf(w.engine.cfg.LingerTimeout)
	w.wait(ticksOf(w.engine.cfg.LingerTimeout) + 2)
	w.run()
	if early && !w.lossy {
		w.t.Error("closed before the peer's end and before LingerTimeout")
	}
	if w.closed != w.opened || w.fakeLoop.closed != 1 {
		w.t.Errorf("opened %d, closed %d times, its descriptor %d times", w.opened, w.closed, w.fakeLoop.closed)
	}
	if n := w.engine.active.Load(); n != 0 || w.engine.admitted.Load() != 0 || w.engine.admission.handshake != 0 {
		w.t.Errorf("%d sessions, %d admitted, %d handshakes are left", n, w.engine.admitted.Load(), w.engine.admission.handshake)
	}
	if w.opened > 0 && w.inErr == io.EOF && !w.ended && !w.lossy && w.next != w.sent {
		w.t.Errorf("%d of %d messages were handled", w.next, w.sent)
	}
	if !testkit.Poll(testkit.Patience, func() bool { return w.released.Load() >= w.owned }) || w.released.Load() > w.owned {
		w.t.Errorf("%d of %d payloads were released", w.released.Load(), w.owned)
	}
	if !w.lossy {
		w.checkWritten()
	}
}

// checkWritten compares the bytes that the peer got with the messages queued for it.
func (w *walk) checkWritten() {
	b := w.out
	for i, id := range w.queued {
		var m framing.Message
		n, err := framing.Packet{}.Decode(b, 0, 1<<20, &m)
		if m.ID != id && i+1 < len(w.queued) && w.queued[i+1] == m.ID && w.concurrent[m.ID] == id {
			w.queued[i+1], id = id, m.ID // the one was sent while the other was being sent
		}
		if err != nil || n == 0 || m.ID != id {
			w.t.Errorf("message %d of %d to the peer: ID %x, want %x (%d bytes left, %v)", i, len(w.queued), m.ID, id, len(b), err)
			return
		}
		b = b[n:]
	}
	if len(b) > 0 {
		w.t.Errorf("%d bytes too many to the peer", len(b))
	}
}

// TestRandomWalk runs sessions through random sequences of events, calls and deadlines, and
// checks P1 (order of callbacks), P9 (queued bytes are written before an orderly end) and
// P10 (one OnClose, no buffer kept). In builds with the race detector the states are
// checked after each step, too.
func TestRandomWalk(t *testing.T) {
	walks := 150
	if raceEnabled {
		walks = 40
	}
	listeners := map[string][]Protocol{
		"packets": {Packets()},
		"sniffed": {Packets(), Framed(framing.Line{})},
		"codec":   {Framed(framing.Packet{})},
		"proxied": {ProxyProtocol{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}, Packets(), Framed(framing.Line{})},
	}
	for name, protocols := range listeners {
		for _, accept := range []accept{newFakeSession, newSharedSession, newInlineSession} {
			t.Run(name, func(t *testing.T) {
				for seed := range uint64(walks) {
					if randomWalk(t, seed, accept, name == "proxied", protocols); t.Failed() {
						t.Fatalf("seed %d", seed)
					}
				}
			})
		}
	}
}

// accept is one of the functions that make a fakeSession.
type accept func(*testing.T, Config, ...Protocol) *fakeSession

func newInlineSession(t *testing.T, cfg Config, protocols ...Protocol) *fakeSession {
	t.Helper()
	cfg.Dispatch = Inline
	return newFakeSession(t, cfg, protocols...)
}

func randomWalk(t *testing.T, seed uint64, accept accept, proxied bool, protocols []Protocol) {
	before := memory.total()
	m := &model{t: t}
	cfg := Config{
		Handler: m, RingSize: minRingSize, ReadBufferSize: minReadBufferSize,
		LingerTimeout:  time.Hour, // real time passes, too, and must not count
		OutboxSoftMark: 8 << 10, OutboxLimit: 64 << 20, WriteTimeout: -1,
		PartialTimeout: -1, Logger: discardLogger(),
	}
	w := &walk{fakeSession: accept(t, cfg, protocols...), model: m, rng: rand.New(rand.NewPCG(seed, 1)), concurrent: map[uint32]uint32{}}
	if proxied {
		w.wire = []byte("PROXY TCP4 192.0.2.1 192.0.2.2 1000 2000\r\n")
	}
	m.onSwitch = w.reply
	w.during = w.meanwhile
	for range 200 {
		w.act()
	}
	w.settle(w.conn.session)
	if b := w.conn.core().consumer.replies.block; b != nil {
		b.free()
	}
	if n := memory.total() - before; n != 0 {
		t.Errorf("%d bytes are still accounted", n)
	}
}
