package engine

import (
	"encoding/binary"
	"time"

	"github.com/millrace/millrace/framing"
)

// openLink makes a session of a Transport's connection.
func (e *Engine) openLink(h *Host, link Link, info OpenInfo) (*Session, error) {
	if err := e.admit(info.Remote.Addr()); err != nil {
		e.countRefused(err)
		return nil, err
	}
	if !e.beginSession() {
		e.release(info.Remote.Addr())
		return nil, ErrShutdown
	}
	c := e.nextCore()
	s := &Session{
		engine: e, core: c, listener: h.listener, link: link,
		transport: e.stats.transport(h.name),
		remote:    info.Remote, local: info.Local,
		opened: true, phase: phaseOpen, throttle: newThrottle(&e.cfg),
	}
	if info.Dialed {
		s.listener = nil
	}
	s.out.Init(&e.lim)
	if !c.slots.add(c.index, s) {
		e.release(info.Remote.Addr())
		e.sessionGone()
		e.countRefused(errNoSlot)
		return nil, errNoSlot
	}
	s.transport.active.Add(1)
	s.transport.opened.Add(1)
	if err := s.postWait(recordOpen); err != nil {
		c.forget(s)
		return nil, err
	}
	if e.draining.Load() {
		go s.endLinkAfterMessages(ErrShutdown) // Shutdown may have passed by already
	}
	return s, nil
}

// postWait posts a control record, waiting for room in the ring.
func (s *Session) postWait(kind uint32) error {
	claim, err := s.core.claim(recordIDSize, s.engine.aliveOrClosed)
	if err != nil {
		return err
	}
	s.core.commitControl(claim, s, kind)
	return nil
}

// Deliver hands m, copied, to the handler, in order. It blocks while the core's
// ring is full: that is how a Transport's peer feels backpressure. For a
// Transport's own goroutines, which may call it at the same time; never from a
// callback. It fails with the session's close reason when the session ends.
func (s *Session) Deliver(m *framing.Message) error {
	if s.throttle != nil {
		if wait := s.throttle.spend(&s.engine.cfg, 1, len(m.Ext)+len(m.Payload)); wait > 0 {
			s.core.stats.throttled.Add(1)
			time.Sleep(min(wait, time.Second)) // the rest of the debt is waited for next time
		}
	}
	size := messageSize(m)
	if size > s.core.share-recordIDSize {
		return s.deliverLarge(copyLarge(m))
	}
	claim, err := s.core.claim(recordIDSize+size, s.alive)
	if err != nil {
		return err
	}
	binary.LittleEndian.PutUint64(claim.Buf, uint64(s.id))
	putMessage(claim.Buf[recordIDSize:], m)
	s.core.ring.Commit(claim, recordMessages)
	s.core.wake()
	s.transport.messagesIn.Add(1)
	return nil
}

// deliverLarge posts l by reference, waiting for room.
func (s *Session) deliverLarge(l *largeMessage) error {
	c := s.core
	if c.putLarge(s, l) {
		s.transport.messagesIn.Add(1)
		return nil
	}
	c.spaceMu.Lock()
	defer c.spaceMu.Unlock()
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	for {
		if c.putLarge(s, l) {
			s.transport.messagesIn.Add(1)
			return nil
		}
		if err := s.alive(); err != nil {
			l.block.free()
			return err
		}
		c.spaceCond.Wait()
	}
}

// TryDeliver is Deliver that returns ErrWouldBlock instead of blocking: for
// unreliable datagrams. Such a drop is counted.
func (s *Session) TryDeliver(m *framing.Message) error {
	if err := s.alive(); err != nil {
		return err
	}
	size := messageSize(m)
	claim, ok := s.core.ring.Claim(min(recordIDSize+size, s.core.ring.MaxRecord()))
	if !ok || recordIDSize+size > s.core.ring.MaxRecord() {
		if ok {
			s.core.ring.CommitPart(claim, 0, recordMessages)
		}
		s.core.stats.datagramDrops.Add(1)
		return ErrWouldBlock
	}
	binary.LittleEndian.PutUint64(claim.Buf, uint64(s.id))
	putMessage(claim.Buf[recordIDSize:], m)
	s.core.ring.Commit(claim, recordMessages)
	s.core.wake()
	s.transport.messagesIn.Add(1)
	return nil
}

// alive is nil as long as messages make sense.
func (s *Session) alive() error {
	if s.closing.Load() {
		return s.Err()
	}
	return nil
}

// PeerClosed tells, for a Link, that the peer will send no more but may still
// read: after the messages delivered so far are handled and every Hold is
// released, the engine calls Link.Close with ErrPeerClosed. It may wait for
// room in the ring.
func (s *Session) PeerClosed() { s.endLinkAfterMessages(ErrPeerClosed) }

func (s *Session) endLinkAfterMessages(reason error) {
	s.out.mu.Lock()
	if s.ending == nil {
		s.ending = reason
	}
	s.out.mu.Unlock()
	_ = s.postWait(recordEnd) // it fails only when the engine is closed
}

// Ended tells, for a Link, that the connection is gone and why. OnClose follows
// after the messages delivered before. Once for each session that Host.Open
// returned; it may wait for room in the ring.
func (s *Session) Ended(reason error) {
	s.out.mu.Lock()
	s.closing.Store(true) // nothing can be sent; what was delivered is handled
	if s.reason == nil {
		s.reason = reason
	}
	s.out.mu.Unlock()
	if err := s.postWait(recordClosed); err != nil {
		s.core.forget(s)
	}
}
