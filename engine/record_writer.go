package engine

import (
	"encoding/binary"
	"errors"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/ring"
)

// errRingFull: the ring has no space for a record, and the writer does not wait. The
// ring is unchanged.
var errRingFull = errors.New("engine: the ring is full")

// A recordWriter puts the records of one session at a time into a core's ring. All
// records are written here: by the loop's recordWriter, and by one of each Delivery and
// each call of a link. Consecutive messages share a record until publish. One goroutine
// uses a recordWriter at a time.
type recordWriter struct {
	core  *core
	wait  waitPolicy
	claim ring.Claim
	used  int // bytes of claim; 0 means that no record is open
}

// waitPolicy is when a recordWriter waits for space.
type waitPolicy uint8

const (
	waitNever   waitPolicy = iota // fail with errRingFull: for loops, and datagrams
	waitOpen                      // while the session handles messages
	waitRunning                   // while the engine runs: for records that must not be lost
)

// message adds m, received from s, to the open record, or starts a record. more is the
// number of input bytes that may follow, from which the size of a new record is
// estimated. publish makes the message visible to the consumer.
func (w *recordWriter) message(s *Session, m *framing.Message, more int) error {
	size := messageSize(m)
	if w.used > 0 && size > len(w.claim.Buf)-w.used {
		w.publish()
	}
	if w.used == 0 {
		need := recordIDSize + size
		claim, err := w.reserve(s, need, max(need, min(need+2*more, w.core.share)))
		if err != nil {
			return err
		}
		w.claim, w.used = claim, recordIDSize
	}
	w.used += putMessage(w.claim.Buf[w.used:], m)
	return nil
}

// packets publishes b, complete packets of s as received.
func (w *recordWriter) packets(s *Session, b []byte) error {
	w.publish()
	need := recordIDSize + len(b)
	claim, err := w.reserve(s, need, need)
	if err != nil {
		return err
	}
	copy(claim.Buf[recordIDSize:], b)
	w.commit(claim, recordPackets)
	return nil
}

// control publishes a record without messages.
func (w *recordWriter) control(s *Session, kind uint32) error {
	w.publish()
	claim, err := w.reserve(s, recordIDSize, recordIDSize)
	if err != nil {
		return err
	}
	w.commit(claim, kind)
	return nil
}

// large publishes a message by reference, in a block of size bytes. It calls message to
// get it once there is space.
func (w *recordWriter) large(s *Session, size int, message func() *largeMessage) error {
	w.publish()
	t := &w.core.large
	i, ok := t.reserve(size)
	if !ok {
		err := w.await(s, func() bool { i, ok = t.reserve(size); return ok })
		if err != nil {
			return err
		}
	}
	need := recordIDSize + 4
	claim, err := w.reserve(s, need, need)
	if err != nil {
		t.release(i, size)
		return err
	}
	t.put(i, message())
	binary.LittleEndian.PutUint32(claim.Buf[recordIDSize:], i)
	w.commit(claim, recordLarge)
	return nil
}

// publish makes the open record visible to the consumer.
func (w *recordWriter) publish() {
	if w.used == 0 {
		return
	}
	w.core.ring.CommitPart(w.claim, w.used, recordMessages)
	w.claim, w.used = ring.Claim{}, 0
	w.wake()
}

// wake makes the consumer check the ring. A worker that shares the loop does so at the end
// of the loop's round anyway.
func (w *recordWriter) wake() {
	if w.core.shared == nil || w != &w.core.records {
		w.core.wake()
	}
}

// reserve claims want bytes of the ring for a record of s, or need bytes if want are not
// free, and writes the ID of s.
func (w *recordWriter) reserve(s *Session, need, want int) (ring.Claim, error) {
	r := w.core.ring
	claim, ok := r.Claim(want)
	if !ok && want > need {
		claim, ok = r.Claim(need)
	}
	if !ok {
		if err := w.await(s, func() bool { claim, ok = r.Claim(need); return ok }); err != nil {
			return ring.Claim{}, err
		}
	}
	binary.LittleEndian.PutUint64(claim.Buf, uint64(s.id))
	return claim, nil
}

func (w *recordWriter) commit(claim ring.Claim, kind uint32) {
	w.core.ring.Commit(claim, kind)
	w.wake()
}

// await waits, by w's policy, until try returns true. Consumers wake it after they have
// released space.
func (w *recordWriter) await(s *Session, try func() bool) error {
	if w.wait == waitNever {
		return errRingFull
	}
	c := w.core
	c.spaceMu.Lock()
	defer c.spaceMu.Unlock()
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	for !try() {
		if w.wait == waitOpen && s.closing.Load() != closingNot {
			return s.closeReason()
		}
		if c.engine.dead.Load() {
			return ErrClosed
		}
		c.spaceCond.Wait()
	}
	return nil
}
