package bench

import (
	"bytes"
	"testing"

	"github.com/millrace/millrace/framing"
)

// TestScript decodes a whole cycle with the project's own framing.
func TestScript(t *testing.T) {
	for _, c := range []struct {
		name     string
		cfg      Config
		reply    framing.Type
		inFlight int
	}{
		{"response", Config{InFlight: 100, Size: 7}, framing.Response, 100},
		{"raw", Config{InFlight: 1, Size: 0, Raw: true}, framing.Request, 1},
	} {
		s, err := newScript(c.cfg, target{scheme: "tcp"})
		if err != nil {
			t.Fatal(err)
		}
		if s.frames < 2*c.inFlight || s.frames < minCycle {
			t.Errorf("%s: a cycle of %d frames for %d in flight", c.name, s.frames, c.inFlight)
		}
		requests, replies := decodeScript(t, s.requests.bytes), decodeScript(t, s.replies.bytes)
		if len(requests) != 2*s.frames || len(replies) != 2*s.frames {
			t.Fatalf("%s: %d requests, %d replies; want each of %d twice", c.name, len(requests), len(replies), s.frames)
		}
		for i, request := range requests {
			reply := replies[i]
			if request.Type != framing.Request || reply.Type != c.reply || request.ID != reply.ID ||
				request.ID != uint32(i%s.frames+1) || len(request.Payload) != c.cfg.Size ||
				!bytes.Equal(request.Payload, reply.Payload) {
				t.Fatalf("%s: frame %d: %+v, %+v", c.name, i, request, reply)
			}
		}
	}
}

func decodeScript(t *testing.T, b []byte) (messages []framing.Message) {
	t.Helper()
	for len(b) > 0 {
		var m framing.Message
		n, err := framing.Packet{}.Decode(b, 0, len(b), &m)
		if err != nil || n == 0 {
			t.Fatalf("%d, %v", n, err)
		}
		messages = append(messages, m)
		b = b[n:]
	}
	return messages
}

// TestStream compares the stream of frames of one length, and of several lengths, with
// the bytes written out.
func TestStream(t *testing.T) {
	for _, frames := range [][]string{{"ab", "cd", "ef"}, {"a", "bcd", "ef"}} {
		var list [][]byte
		for _, f := range frames {
			list = append(list, []byte(f))
		}
		s := newStream(list)
		for start := range frames {
			var walk string
			ends := []int64{0}
			for i := range 20 {
				walk += frames[(start+i)%3]
				ends = append(ends, int64(len(walk)))
				if got := s.prefix(start, int64(i+1)); got != int64(len(walk)) {
					t.Fatalf("%q from %d: %d frames have %d bytes, not %d", frames, start, i+1, len(walk), got)
				}
			}
			for pos := range int64(30) {
				whole := int64(0)
				for ends[whole+1] <= pos {
					whole++
				}
				if got := s.count(start, pos); got != whole {
					t.Fatalf("%q from %d: %d bytes have %d frames, not %d", frames, start, pos, whole, got)
				}
				for n := range int64(10) {
					want := walk[pos:][:min(n, 6)]
					if got := s.window(start, pos, n); string(got) != want {
						t.Fatalf("%q from %d: window(%d, %d) is %q, want %q", frames, start, pos, n, got, want)
					}
				}
			}
		}
	}
}
