package wsupgrade

import (
	"bytes"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/framing"
)

// TestIdleSessionHoldsNoAssembly gives the buffer back at the call after the
// message went out, which the byte that was held back brings about.
func TestIdleSessionHoldsNoAssembly(t *testing.T) {
	c, s, m := openCodec(true), &fakeSession{}, new(framing.Message)
	for _, last := range []string{"end", ""} {
		if n, ok, err := c.decode(s, fromClient(ws.OpText, false, "start "), 0, m); n == 0 || ok || err != nil {
			t.Fatal(n, ok, err)
		}
		frame := fromClient(ws.OpContinuation, true, last)
		n, ok, err := c.decode(s, frame, 0, m)
		if n != len(frame)-1 || !ok || err != nil || string(m.Payload) != "start "+last {
			t.Fatalf("took %d of %d, %v, %v, %q", n, len(frame), ok, err, m.Payload)
		}
		if n, ok, err := c.decode(s, frame[n:], 0, m); n != 1 || ok || err != nil {
			t.Fatalf("the byte held back: %d, %v, %v", n, ok, err)
		}
		if c.parts != nil {
			t.Fatal("the assembly is still there")
		}
	}
}

// TestLentAssemblyIsLeftAlone doesn't touch a delivered message while nothing
// new arrives.
func TestLentAssemblyIsLeftAlone(t *testing.T) {
	c, s, m := openCodec(true), &fakeSession{}, new(framing.Message)
	stream := append(fromClient(ws.OpText, false, "start "), fromClient(ws.OpContinuation, true, "end")...)
	n, _, _ := c.decode(s, stream, 0, m)
	if _, ok, err := c.decode(s, stream[n:], 0, m); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if n, ok, err := c.decode(s, nil, 0, new(framing.Message)); n != 0 || ok || err != nil || c.parts == nil {
		t.Fatalf("an empty call: %d, %v, %v", n, ok, err)
	}
	if string(m.Payload) != "start end" || cap(m.Payload) != len(m.Payload) {
		t.Errorf("message %q with capacity %d", m.Payload, cap(m.Payload))
	}
}

// TestAssemblyGrowth stays within the limit and copies each byte a few times at
// most.
func TestAssemblyGrowth(t *testing.T) {
	const limit = 1_000_000
	var p assembly
	copied := 0
	for len(p.buf) < limit {
		if need := len(p.buf) + 1; need > cap(p.buf) {
			copied += len(p.buf)
			p.grow(need, limit)
		}
		p.buf = append(p.buf, 0)
	}
	if cap(p.buf) > limit || copied > 2*limit {
		t.Errorf("capacity %d, %d bytes copied", cap(p.buf), copied)
	}
}

// TestLargeAssemblyIsNotPooled leaves the memory of a burst to the garbage
// collector.
func TestLargeAssemblyIsNotPooled(t *testing.T) {
	c := openCodec(true)
	c.parts = &assembly{buf: make([]byte, 0, maxPooledAssembly+1), frames: 3}
	large := c.parts
	c.release()
	if c.parts != nil || large.frames != 3 {
		t.Fatal("it was made ready for the next message")
	}
	c.parts = &assembly{buf: make([]byte, 9, maxPooledAssembly), frames: 3, text: true, delivered: true}
	small := c.parts
	c.release()
	if len(small.buf) != 0 || small.frames != 0 || small.text || small.delivered {
		t.Errorf("recycled as %+v", small)
	}
}

// TestAsManyFragmentsAsAllowed assembles a message of the most frames, and
// refuses one of one more.
func TestAsManyFragmentsAsAllowed(t *testing.T) {
	most := maxFragments(testLimit)
	for _, frames := range []int{most, most + 1} {
		stream := fromClient(ws.OpText, false, "a")
		for range frames - 2 {
			stream = append(stream, fromClient(ws.OpContinuation, false, "")...)
		}
		stream = append(stream, fromClient(ws.OpContinuation, true, "b")...)
		c := openCodec(true)
		o := feed(t, c, &fakeSession{}, stream)
		if frames > most {
			wantViolation(t, c, o.err, ws.StatusPolicyViolation)
		} else if o.err != nil || len(o.messages) != 1 || string(o.messages[0].Payload) != "ab" {
			t.Errorf("%d frames: %v", frames, o.err)
		}
	}
}

// TestFragmentSizes puts messages together from fragments of every size.
func TestFragmentSizes(t *testing.T) {
	want := strings.Repeat("0123456789abcdef", 64)
	c, s := openCodec(true), &fakeSession{}
	for size := 1; size <= len(want); size = size*3/2 + 1 {
		var stream []byte
		op := ws.OpText
		for at := 0; at < len(want); at += size {
			end := min(at+size, len(want))
			stream = append(stream, fromClient(op, end == len(want), want[at:end])...)
			op = ws.OpContinuation
		}
		o := feed(t, c, s, bytes.Clone(stream))
		if o.err != nil || len(o.messages) != 1 || string(o.messages[0].Payload) != want || !o.messages[0].Text {
			t.Fatalf("fragments of %d: %v, %d messages", size, o.err, len(o.messages))
		}
	}
}
