package framing

import (
	"errors"
	"strings"
	"testing"
)

func TestLineDecode(t *testing.T) {
	for _, c := range []struct {
		wire       string
		n          int
		text, kept string // the payload without and with KeepCR
	}{
		{"", 0, "", ""},
		{"half", 0, "", ""},
		{"half\r", 0, "", ""},
		{"\n", 1, "", ""},
		{"\r\n", 2, "", "\r"},
		{"\r\r\n", 3, "\r", "\r\r"},
		{"unix\n", 5, "unix", "unix"},
		{"dos\r\n", 5, "dos", "dos\r"},
		{"a\rb\n", 4, "a\rb", "a\rb"},
		{"one\ntwo\n", 4, "one", "one"},
		{"\ntwo\n", 1, "", ""},
		{"\xff\x00\n", 3, "\xff\x00", "\xff\x00"},
	} {
		for _, l := range []Line{{}, {KeepCR: true}} {
			want := c.text
			if l.KeepCR {
				want = c.kept
			}
			var m Message
			n, err := l.Decode([]byte(c.wire), 0, 100, &m)
			if n != c.n || err != nil || string(m.Payload) != want {
				t.Errorf("%+v: Decode(%q) = %d, %v, %q, want %d, %q", l, c.wire, n, err, m.Payload, c.n, want)
			}
		}
	}
}

func TestLineAppend(t *testing.T) {
	for _, c := range []struct{ payload, text, kept string }{
		{"", "\n", "\n"},
		{"hello", "hello\n", "hello\n"},
		{"\rhello", "\rhello\n", "\rhello\n"},
		{"hello\r", "hello\r\r\n", "hello\r\n"},
		{"\r", "\r\r\n", "\r\n"},
	} {
		for _, l := range []Line{{}, {KeepCR: true}} {
			want := c.text
			if l.KeepCR {
				want = c.kept
			}
			got, err := l.Append(nil, &Message{Payload: []byte(c.payload)})
			if err != nil || string(got) != want {
				t.Errorf("%+v: Append(%q) = %q, %v, want %q", l, c.payload, got, err, want)
			}
		}
	}
}

func TestLineAppendRefusesLineFeeds(t *testing.T) {
	for _, payload := range []string{"\n", "\nb", "a\nb", "a\n", "a\r\n"} {
		refuses(t, Line{}, &Message{Payload: []byte(payload)})
		refuses(t, Line{KeepCR: true}, &Message{Payload: []byte(payload)})
		refuses(t, MuxLine{}, &Message{Payload: []byte(payload)})
	}
}

func TestLineEchoWithKeepCRIsExact(t *testing.T) {
	const wire = "unix\ndos\r\n\r\n\n\r\r\nlast\r\n"
	r := reader{framer: Line{KeepCR: true}, max: 100}
	if err := r.feed([]byte(wire)); err != nil {
		t.Fatal(err)
	}
	var echo []byte
	for i := range r.got {
		echo, _ = r.framer.Append(echo, &r.got[i])
	}
	if string(echo) != wire {
		t.Errorf("echo of %q is %q", wire, echo)
	}
}

// A carriage return at the limit may be the ending's, until the next byte tells.
func TestLineLimitAndCarriageReturn(t *testing.T) {
	for _, c := range []struct {
		wire string
		keep bool
		n    int
		want error
	}{
		{"12345", false, 0, nil},
		{"12345\r", false, 0, nil},
		{"12345\r\n", false, 7, nil},
		{"12345\r\r", false, 0, ErrTooLarge},
		{"12345\r\r\n", false, 0, ErrTooLarge},
		{"12345\r6", false, 0, ErrTooLarge},
		{"123456", false, 0, ErrTooLarge},
		{"123456\n", false, 0, ErrTooLarge},
		{"12345\r", true, 0, ErrTooLarge},
		{"12345\r\n", true, 0, ErrTooLarge},
		{"1234\r\n", true, 6, nil},
		{strings.Repeat("x", 1000) + "\n", false, 0, ErrTooLarge},
	} {
		var m Message
		n, err := Line{KeepCR: c.keep}.Decode([]byte(c.wire), 0, 5, &m)
		if n != c.n || !errors.Is(err, c.want) {
			t.Errorf("KeepCR %t: Decode(%.20q) = %d, %v, want %d, %v", c.keep, c.wire, n, err, c.n, c.want)
		}
	}
}

func FuzzLine(f *testing.F) {
	f.Add([]byte("one\ntwo\r\n\r\n\n\r\r\nrest\r"), uint16(9), false)
	f.Add([]byte("one\ntwo\r\n\r\n\n\r\r\nrest\r"), uint16(8), true)
	f.Add([]byte(strings.Repeat("x", fuzzMax)+"\r\n"), uint16(fuzzMax+1), false)
	f.Add([]byte(strings.Repeat("x", fuzzMax+1)), uint16(fuzzMax), false)
	f.Add([]byte("ends in CR\r"), uint16(0), false)
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, keep bool) {
		l := Line{KeepCR: keep}
		fuzzDecode(t, l, data, int(cut), keep)
		m := Message{Payload: data}
		fuzzAppend(t, l, &m, &m)
	})
}
