package framing

import (
	"bytes"
	"errors"
	"testing"
)

const fuzzMax = 1000 // bytes; small, so that fuzzed lengths are on both sides of it

// fuzzDecode checks the properties of every framer for any bytes: data in two
// pieces gives the same as in one; a frame is the same without the bytes after it;
// a decoded message can be encoded again, to the same bytes if the framing has only
// one form for a message (exact).
func fuzzDecode(t *testing.T, f Framer, data []byte, cut int, exact bool) {
	cut = min(cut, len(data))
	whole := reader{framer: f, max: fuzzMax}
	wholeErr := whole.feed(data)
	split := reader{framer: f, max: fuzzMax}
	splitErr := split.feed(data[:cut])
	if splitErr == nil {
		splitErr = split.feed(data[cut:])
	}
	if kindOf(wholeErr) != kindOf(splitErr) {
		t.Fatalf("whole: %v, cut at %d: %v", wholeErr, cut, splitErr)
	}
	sameAll(t, split.got, whole.got)
	if wholeErr == nil && !bytes.Equal(split.tail, whole.tail) {
		t.Fatalf("cut at %d leaves %q, whole leaves %q", cut, split.tail, whole.tail)
	}
	if wholeErr != nil && kindOf(wholeErr) != ErrTooLarge && kindOf(wholeErr) != ErrMalformed {
		t.Fatalf("Decode's error is none of the two: %v", wholeErr)
	}
	rest := data
	for i := range whole.got {
		m := stale()
		n, err := f.Decode(rest, 0, fuzzMax, &m)
		if err != nil || n <= 0 || n > len(rest) || !same(&m, &whole.got[i]) {
			t.Fatalf("message %d again: %d, %v, %+v, want %+v", i, n, err, m, whole.got[i])
		}
		fuzzFrame(t, f, rest[:n], &m, exact)
		rest = rest[n:]
	}
}

// fuzzFrame checks one frame, of which Decode made m.
func fuzzFrame(t *testing.T, f Framer, frame []byte, m *Message, exact bool) {
	if len(m.Payload)+len(m.Ext) > fuzzMax {
		t.Fatalf("a message of %d bytes passed a limit of %d", len(m.Payload)+len(m.Ext), fuzzMax)
	}
	if cap(m.Payload) != len(m.Payload) || cap(m.Ext) != len(m.Ext) {
		t.Fatalf("the message %+v has capacity for what is behind it", m)
	}
	alone := stale()
	n, err := f.Decode(bytes.Clone(frame), 0, fuzzMax, &alone)
	if n != len(frame) || err != nil || !same(&alone, m) {
		t.Fatalf("the frame %q alone: %d, %v, %+v, want %+v", frame, n, err, alone, m)
	}
	again, err := f.Append(nil, m)
	if err != nil || exact && !bytes.Equal(again, frame) {
		t.Fatalf("%+v encodes as %q, %v, came as %q", m, again, err, frame)
	}
}

// fuzzAppend checks that m either is refused, with dst unchanged, or arrives as
// want, with any bytes after it.
func fuzzAppend(t *testing.T, f Framer, m, want *Message) {
	dst := []byte("before")
	wire, err := f.Append(dst, m)
	if err != nil {
		if !errors.Is(err, ErrUnencodable) || string(wire) != "before" {
			t.Fatalf("Append refuses %+v with %q, %v", m, wire, err)
		}
		return
	}
	frame := wire[len(dst):]
	for _, behind := range []string{"", "\n", "\r\n", "\x00", "behind"} {
		got := stale()
		n, err := f.Decode(append(bytes.Clone(frame), behind...), 0, len(m.Payload)+len(m.Ext), &got)
		if n != len(frame) || err != nil || !same(&got, want) {
			t.Fatalf("%q + %q arrives as %d, %v, %+v, want %d, %+v", frame, behind, n, err, got, len(frame), want)
		}
	}
}
