package engine

// Session.reading is a set of reasons not to read from the peer: the engine's reasons in
// the low bits, and in the others the number of the application's pauses.
const (
	readCongested int32 = 1 << iota // more than OutboxSoftMark bytes wait to be written
	readThrottled                   // the peer has sent more than its rates allow
	readAwaiting                    // a function of Control.Await runs
	readMemory                      // it buffers much, and the process is near Config.MemoryLimit
	readPause                       // one Pause
)

// Pause stops reading from the peer; its transport's flow control then stops the peer.
// Messages that were received already still arrive, at most one ring of them. Each Pause
// needs one Resume. It does not block.
func (s *Session) Pause() {
	if s.reading.Add(readPause) == readPause {
		s.conn.readingChanged()
	}
}

// Resume undoes one Pause. A Resume without a Pause does nothing but log a warning, once
// for the engine.
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

// unblockReading removes one of the engine's reasons. Without any reason left, reading
// continues.
func (s *Session) unblockReading(reason int32) {
	if s.reading.And(^reason) == reason {
		s.conn.readingChanged()
	}
}
