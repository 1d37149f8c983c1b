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
		s, err := newScript(c.cfg, "tcp")
		if err != nil {
			t.Fatal(err)
		}
		if s.frames < 2*c.inFlight || s.frames < minCycle {
			t.Errorf("%s: a cycle of %d frames for %d in flight", c.name, s.frames, c.inFlight)
		}
		requests, replies := decodeAll(t, s.requests), decodeAll(t, s.replies)
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

func decodeAll(t *testing.T, b []byte) (messages []framing.Message) {
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

// TestWindow checks the walk round a script against one that is written out.
func TestWindow(t *testing.T) {
	doubled := []byte("abcdefabcdef")
	for offset := range 6 {
		for pos := range int64(20) {
			for n := range 10 {
				got := window(doubled, offset, pos, n)
				if len(got) != min(n, 6) {
					t.Fatalf("window(%d, %d, %d) is %q", offset, pos, n, got)
				}
				for i, c := range got {
					if want := doubled[(offset+int(pos)+i)%6]; c != want {
						t.Fatalf("window(%d, %d, %d) is %q", offset, pos, n, got)
					}
				}
			}
		}
	}
}
