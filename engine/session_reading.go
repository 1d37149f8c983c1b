package engine

// Session.reading is a set of reasons not to read from the peer: two bits for the
// engine's own, and above them the number of the application's pauses.
const (
	readCongested int32 = 1 << iota // more than OutboxSoftMark bytes wait to be written
	readThrottled                   // the peer has sent more than its rates allow
	readPause                       // one Pause
)

// Pause stops reading from the peer, which then meets its transport's flow
// control. Messages that were received already still arrive, at most a ring
// full. Each Pause needs one Resume.
func (s *Session) Pause() {
	if s.reading.Add(readPause) == readPause {
		s.conn.readingChanged()
	}
}

// Resume undoes one Pause. A Resume without a Pause does nothing but log a
// warning.
func (s *Session) Resume() {
	for {
		v := s.reading.Load()
		if v < readPause {
			s.core.engine.misuse(s, "Resume without Pause")
			return
		}
		if s.reading.CompareAndSwap(v, v-readPause) {
			if v == readPause {
				s.conn.readingChanged()
			}
			return
		}
	}
}

// blockReading adds one of the engine's reasons not to read.
func (s *Session) blockReading(reason int32) {
	if s.reading.Or(reason) == 0 {
		s.conn.readingChanged()
	}
}

// unblockReading takes one of the engine's reasons away. With the last one
// reading continues.
func (s *Session) unblockReading(reason int32) {
	if s.reading.And(^reason) == reason {
		s.conn.readingChanged()
	}
}
