package engine

import (
	"encoding/binary"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/ring"
)

// A batch is the loop's open record in its ring: one session's messages, as
// many as fit, published together. Only the loop uses it.
type batch struct {
	core  *core
	claim ring.Claim
	used  int // bytes of claim; 0 means that no record is open
	count int // messages in it
}

// put adds m, which came from s. hint is how many bytes of input are left,
// from which the size of a new record is guessed. It reports false when the
// ring has no room, and then m is nowhere.
func (b *batch) put(s *Session, m *framing.Message, hint int) bool {
	size := messageSize(m)
	if b.used > 0 && size > len(b.claim.Buf)-b.used {
		b.publish()
	}
	if b.used == 0 && !b.open(s, size, hint) {
		return false
	}
	b.used += putMessage(b.claim.Buf[b.used:], m)
	b.count++
	return true
}

// open starts a record for s that has room for size bytes, and for what hint
// bytes of input may become if the ring has that much.
func (b *batch) open(s *Session, size, hint int) bool {
	c := b.core
	need := recordIDSize + size
	claim, ok := c.ring.Claim(max(need, min(need+2*hint, c.share)))
	if !ok {
		if claim, ok = c.ring.Claim(need); !ok {
			return false
		}
	}
	binary.LittleEndian.PutUint64(claim.Buf, uint64(s.id))
	b.claim, b.used = claim, recordIDSize
	return true
}

// publish makes the open record visible to the consumer.
func (b *batch) publish() {
	if b.used == 0 {
		return
	}
	c := b.core
	c.ring.CommitPart(b.claim, b.used, recordMessages)
	c.wake()
	b.claim, b.used, b.count = ring.Claim{}, 0, 0
}

// putControl publishes a record of s without messages; false when the ring has
// no room. It may be called from any goroutine.
func (c *core) putControl(s *Session, kind uint32) bool {
	claim, ok := c.ring.Claim(recordIDSize)
	if !ok {
		return false
	}
	c.commitControl(claim, s, kind)
	return true
}

func (c *core) commitControl(claim ring.Claim, s *Session, kind uint32) {
	binary.LittleEndian.PutUint64(claim.Buf, uint64(s.id))
	c.ring.Commit(claim, kind)
	c.wake()
}

// putLarge publishes l by reference, and reports false when there is no room
// for it. It may be called from any goroutine.
func (c *core) putLarge(s *Session, l *largeMessage) bool {
	claim, ok := c.ring.Claim(recordIDSize + 4)
	if !ok {
		return false
	}
	i, ok := c.large.put(l)
	if !ok {
		c.ring.CommitPart(claim, 0, recordLarge)
		c.wake() // an abandoned claim may leave padding to release
		return false
	}
	binary.LittleEndian.PutUint32(claim.Buf[recordIDSize:], i)
	binary.LittleEndian.PutUint64(claim.Buf, uint64(s.id))
	c.ring.Commit(claim, recordLarge)
	c.wake()
	return true
}
