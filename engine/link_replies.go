package engine

import (
	"sync/atomic"

	"github.com/millrace/millrace/framing"
)

// Replies is where Session.Reply puts the replies to a Delivery's messages,
// encoded as packets, so that a reply takes no lock: memory that only the
// delivering goroutine touches. It is for a Transport that carries packets, in Inline
// dispatch; the Transport writes what is in it after Delivery.End, and in front of
// everything else that was queued for the same stream since Open.
//
// So it opens Replies only while nothing is queued there, and calls Break when
// anything is: what is replied from then on goes through Link.Send, behind that.
// The zero value is closed.
type Replies struct {
	b         []byte
	stream    uint64
	responses int
	oneWays   int
	requests  int
	open      atomic.Bool
}

// Open begins with an empty b, whose capacity bounds what Replies takes, for
// messages of that stream. By the delivering goroutine, behind Delivery.Begin.
func (r *Replies) Open(b []byte, stream uint64) {
	r.b, r.stream, r.responses, r.oneWays, r.requests = b[:0], stream, 0, 0, 0
	r.open.Store(true)
}

// Break closes r to more replies. From any goroutine.
func (r *Replies) Break() {
	if r.open.Load() {
		r.open.Store(false)
	}
}

// Take closes r and returns what is in it, in the memory given to Open: packets,
// so many of which are Responses and OneWays. By the delivering goroutine, before
// Delivery.End.
func (r *Replies) Take() (packets []byte, responses, oneWays int) {
	r.Break()
	packets, r.b = r.b, nil
	return packets, r.responses, r.oneWays
}

// put appends m, and reports whether it did. max is the largest message that may
// be sent, in bytes.
func (r *Replies) put(m *framing.Message, max int) bool {
	if !r.open.Load() {
		return false
	}
	size := len(m.Payload)
	if m.Stream != r.stream || m.Datagram || m.Flags != 0 || len(m.Ext) > 0 ||
		size > max || framing.PacketHeaderSize+size > cap(r.b)-len(r.b) {
		r.open.Store(false) // what comes may not pass this one
		return false
	}
	b, err := framing.AppendPacket(r.b, m)
	if err != nil {
		return false
	}
	r.b = b
	switch m.Type {
	case framing.Response:
		r.responses++
	case framing.OneWay:
		r.oneWays++
	case framing.Request:
		r.requests++
	}
	return true
}

// sendDirectly puts m where the delivery that it belongs to collects replies, and
// reports whether it did. m tells: it is the delivery's own, made its reply, and lent to
// the callback alone.
func (s *Session) sendDirectly(m *framing.Message) bool {
	t := s.link.turn
	return t != nil && t.message.Load() == m && t.replies != nil && t.replies.put(m, s.core.engine.lim.MaxMessageSize)
}
