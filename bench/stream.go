package bench

import "sort"

// A stream is one direction of a script: the frames of a cycle, back to back.
// The bytes stand twice in a row, so that any slice of up to a cycle is one
// piece. Positions count bytes from a session's own start, frame `start`.
type stream struct {
	bytes    []byte
	frames   int     // in one cycle
	frameLen int64   // bytes of a frame, if all are of one length
	ends     []int64 // otherwise a 0, then the end of each frame of both cycles
}

// newStream lays out frames, which it doesn't keep.
func newStream(frames [][]byte) stream {
	s := stream{frames: len(frames), frameLen: int64(len(frames[0])), ends: []int64{0}}
	same := true
	for range 2 {
		for _, frame := range frames {
			s.bytes = append(s.bytes, frame...)
			s.ends = append(s.ends, int64(len(s.bytes)))
			same = same && int64(len(frame)) == s.frameLen
		}
	}
	if same {
		s.ends = nil
	}
	return s
}

// cycle is the length of all frames, in bytes.
func (s *stream) cycle() int64 { return int64(len(s.bytes) / 2) }

// prefix is how many bytes the first n frames of a session have.
func (s *stream) prefix(start int, n int64) int64 {
	if s.ends == nil {
		return n * s.frameLen
	}
	frames := int64(s.frames)
	return n/frames*s.cycle() + s.ends[int64(start)+n%frames] - s.ends[start]
}

// count is how many whole frames the first n bytes of a session have.
func (s *stream) count(start int, n int64) int64 {
	if s.ends == nil {
		return n / s.frameLen
	}
	rest := n%s.cycle() + s.ends[start]
	after := sort.Search(len(s.ends)-start, func(i int) bool { return s.ends[start+i] > rest })
	return n/s.cycle()*int64(s.frames) + int64(after-1)
}

// window returns up to n bytes from position pos of a session.
func (s *stream) window(start int, pos, n int64) []byte {
	offset := int64(start) * s.frameLen
	if s.ends != nil {
		offset = s.ends[start]
	}
	cycle := s.cycle()
	at := (offset + pos) % cycle
	return s.bytes[at : at+min(n, cycle)]
}
