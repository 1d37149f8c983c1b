package bench

import (
	"bytes"
	"fmt"
	"io"
	"time"
)

// A session is one connection of the load. Its positions count bytes from its
// own start; the script repeats under them. It does no I/O: the loop that owns
// it does.
type session struct {
	fd       int
	index    int32 // among its loop's sessions
	number   int   // among all, for reports
	script   *script
	inFlight int

	start    int   // frame of the script that it begins with
	sent     int64 // bytes of requests written
	received int64 // bytes of replies verified
	ending   bool  // no new requests
	failed   error
	writing  bool // the loop waits for room to write

	// Latency sample: the request of this number is timed.
	sampled   int64 // requests up to the timed one; 0 for none
	sampledAt time.Time
}

// replies is how many whole replies were verified.
func (s *session) replies() int64 { return s.received / int64(s.script.replyLen) }

// due returns what the session may write now, up to a cycle of the script. It is
// empty while the window is full.
func (s *session) due() []byte {
	allowed := s.sent
	if !s.ending {
		allowed = (s.replies() + int64(s.inFlight)) * int64(s.script.requestLen)
	} else if partial := s.sent % int64(s.script.requestLen); partial != 0 {
		allowed += int64(s.script.requestLen) - partial
	}
	return window(s.script.requests, s.start*s.script.requestLen, s.sent, int(allowed-s.sent))
}

// wrote takes note that n more bytes of due were written at now.
func (s *session) wrote(n int, now func() time.Time) {
	s.sent += int64(n)
	if s.sampled == 0 {
		s.sampled = s.sent / int64(s.script.requestLen)
		s.sampledAt = now()
	}
}

// receive verifies b, the next bytes from the server. done says that the timed
// request's reply was among them, and since when it ran.
func (s *session) receive(b []byte) (done bool, since time.Time, err error) {
	for rest := b; len(rest) > 0; {
		want := window(s.script.replies, s.start*s.script.replyLen, s.received, len(rest))
		if !bytes.Equal(rest[:len(want)], want) {
			return false, since, s.mismatch(rest[:len(want)], want)
		}
		s.received += int64(len(want))
		rest = rest[len(want):]
	}
	if s.received*int64(s.script.requestLen) > s.sent*int64(s.script.replyLen) {
		return false, since, fmt.Errorf("session %d: %d bytes of replies to requests not sent", s.number, s.received)
	}
	if s.sampled != 0 && s.replies() >= s.sampled {
		s.sampled = 0
		return true, s.sampledAt, nil
	}
	return false, since, nil
}

// outstanding reports whether replies are still due.
func (s *session) outstanding() bool {
	return s.failed == nil && s.received*int64(s.script.requestLen) < s.sent*int64(s.script.replyLen)
}

// mismatch describes the first reply in which got isn't want.
func (s *session) mismatch(got, want []byte) error {
	at := 0
	for got[at] == want[at] {
		at++
	}
	reply := (s.received + int64(at)) / int64(s.script.replyLen)
	from, to := max(0, at-16), min(len(got), at+16)
	return fmt.Errorf("session %d: reply %d differs: got [% x], want [% x] there",
		s.number, reply+1, got[from:to], want[from:to])
}

// lost says what is missing when the connection ended with err.
func (s *session) lost(err error) error {
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("session %d: after %d replies: %w", s.number, s.replies(), err)
}

// window returns up to n bytes of a script's doubled stream, at position pos of
// a session that started at offset.
func window(doubled []byte, offset int, pos int64, n int) []byte {
	cycle := len(doubled) / 2
	at := (int64(offset) + pos) % int64(cycle)
	return doubled[at : at+int64(min(n, cycle))]
}
