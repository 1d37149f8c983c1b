package bench

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Kinds of failure, the keys of Result.Faults.
const (
	FaultWrongReply = "wrong reply"     // not the expected bytes
	FaultLost       = "connection lost" // closed, reset or timed out
	FaultMissing    = "replies missing" // the connection is open, but they don't arrive
)

// A fault ends a session.
type fault struct {
	kind string
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// A session is one connection of the load, or one stream of a QUIC connection.
// Its positions count bytes from its own start; the script repeats under them.
// It does no I/O: the loop or pump that owns it does. Times are nanoseconds of
// the load's clock.
type session struct {
	fd       int
	secure   *secureConn // nil without TLS
	index    int32       // among its loop's sessions
	number   int         // among all, for reports
	script   *script
	inFlight int
	schedule *schedule // nil in a closed loop
	startAt  int64     // when a closed loop begins
	timer    int       // place among its loop's timers, -1 for none

	start    int   // frame of the script that it begins with
	sent     int64 // bytes of requests written
	received int64 // bytes of replies verified
	answered int64 // whole replies verified
	started  bool
	ending   bool // no new requests
	failed   *fault
	writing  bool // the loop waits for space to write

	// A closed loop's latency sample: the request of this number is timed.
	sampled   int64 // requests up to the timed one; 0 for none
	sampledAt int64
}

// due returns the bytes that the session may write at now, up to a cycle of the
// script. It is empty while the window is full.
func (s *session) due(now func() int64) []byte {
	requests := &s.script.requests
	var allowed int64
	switch {
	case s.schedule != nil:
		if !s.ending {
			s.schedule.release(now(), s.answered)
		}
		allowed = requests.prefix(s.start, s.schedule.released)
	case s.ending:
		// The rest of a request that was begun.
		allowed = requests.prefix(s.start, requests.count(s.start, s.sent))
		if allowed < s.sent {
			allowed = requests.prefix(s.start, requests.count(s.start, s.sent)+1)
		}
	case s.started:
		allowed = requests.prefix(s.start, s.answered+int64(s.inFlight))
	}
	return requests.window(s.start, s.sent, allowed-s.sent)
}

// nextFrame is the length of the request after the written ones, which are whole.
func (s *session) nextFrame() int {
	requests := &s.script.requests
	return int(requests.prefix(s.start, requests.count(s.start, s.sent)+1) - s.sent)
}

// wrote records that n more bytes of due were written at now.
func (s *session) wrote(n int, now func() int64) {
	s.sent += int64(n)
	if s.sampled == 0 && s.schedule == nil {
		s.sampled = s.script.requests.count(s.start, s.sent)
		s.sampledAt = now()
	}
}

// receive verifies b, the next bytes from the server.
func (s *session) receive(b []byte) *fault {
	replies, requests := &s.script.replies, &s.script.requests
	for rest := b; len(rest) > 0; {
		want := replies.window(s.start, s.received, int64(len(rest)))
		if !bytes.Equal(rest[:len(want)], want) {
			return s.mismatch(rest[:len(want)], want)
		}
		s.received += int64(len(want))
		rest = rest[len(want):]
	}
	// A server of raw bytes may return a part of a request.
	whole := requests.count(s.start, s.sent)
	part := s.sent - requests.prefix(s.start, whole)
	if s.received > replies.prefix(s.start, whole)+part {
		return &fault{FaultWrongReply, fmt.Errorf("session %d: %d bytes of replies to requests not sent", s.number, s.received)}
	}
	s.answered = replies.count(s.start, s.received)
	return nil
}

// outstanding reports whether replies are still due.
func (s *session) outstanding() bool {
	whole := s.script.requests.count(s.start, s.sent)
	return s.failed == nil && s.received < s.script.replies.prefix(s.start, whole)
}

// end stops new requests. An open loop still sends the requests that were due before
// now, as far as the window has space.
func (s *session) end(now int64) {
	if s.schedule != nil && !s.ending {
		s.schedule.release(now, s.answered)
	}
	s.ending = true
}

// mismatch describes the first reply in which got isn't want.
func (s *session) mismatch(got, want []byte) *fault {
	at := 0
	for got[at] == want[at] {
		at++
	}
	reply := s.script.replies.count(s.start, s.received+int64(at))
	from, to := max(0, at-16), min(len(got), at+16)
	return &fault{FaultWrongReply, fmt.Errorf("session %d: reply %d differs: got [% x], want [% x] there",
		s.number, reply+1, got[from:to], want[from:to])}
}

// lost is the fault of a session whose connection ended with err.
func (s *session) lost(err error) *fault {
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return &fault{FaultLost, fmt.Errorf("session %d: after %d replies: %w", s.number, s.answered, err)}
}

// missing is the fault of a session whose replies never came.
func (s *session) missing() *fault {
	return &fault{FaultMissing, fmt.Errorf("session %d: after %d replies: %w", s.number, s.answered, errors.New("replies are missing"))}
}
