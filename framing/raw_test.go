package framing

import (
	"bytes"
	"errors"
	"testing"
)

func TestRawDecode(t *testing.T) {
	for _, c := range []struct {
		wire string
		max  int
		want string
		err  error
	}{
		{"", 10, "", nil},
		{"", 0, "", nil},
		{"hello", 10, "hello", nil},
		{"hello", 5, "hello", nil},
		{"hello", 2, "he", nil},
		{"hello", 0, "", ErrTooLarge}, // else it would wait for ever
	} {
		m := stale()
		n, err := Raw{}.Decode([]byte(c.wire), 0, c.max, &m)
		if n != len(c.want) || !errors.Is(err, c.err) {
			t.Errorf("Decode(%q, max %d) = %d, %v, want %d, %v", c.wire, c.max, n, err, len(c.want), c.err)
		}
		if n > 0 && string(m.Payload) != c.want {
			t.Errorf("Decode(%q, max %d) gives %q, want %q", c.wire, c.max, m.Payload, c.want)
		}
	}
}

func TestRawAppend(t *testing.T) {
	for _, payload := range []string{"", "any \x00\r\n\xff bytes"} {
		got, err := Raw{}.Append([]byte("before "), &Message{Payload: []byte(payload)})
		if err != nil || string(got) != "before "+payload {
			t.Errorf("Append(%q) = %q, %v", payload, got, err)
		}
	}
}

func FuzzRaw(f *testing.F) {
	f.Add([]byte("any \x00\r\n\xff bytes"), uint16(3))
	f.Add([]byte{}, uint16(0))
	f.Add(bytes.Repeat([]byte{'x'}, 2*fuzzMax+1), uint16(fuzzMax+1))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16) {
		// Where the messages end depends on the pieces, but not their bytes.
		r := reader{framer: Raw{}, max: fuzzMax}
		at := min(int(cut), len(data))
		if err := errors.Join(r.feed(data[:at]), r.feed(data[at:])); err != nil {
			t.Fatal(err)
		}
		var got, again []byte
		for i := range r.got {
			m := &r.got[i]
			if len(m.Payload) == 0 {
				t.Fatal("an empty message")
			}
			got = append(got, m.Payload...)
			again, _ = Raw{}.Append(again, m)
			fuzzFrame(t, Raw{}, m.Payload, m, true)
		}
		if !bytes.Equal(got, data) || !bytes.Equal(again, data) || len(r.tail) != 0 {
			t.Fatalf("%q arrives as %q, goes on as %q, and %q is left", data, got, again, r.tail)
		}
	})
}
