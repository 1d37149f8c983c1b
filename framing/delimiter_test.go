package framing

import (
	"strings"
	"testing"
)

func TestDelimiterDecode(t *testing.T) {
	for _, c := range []struct {
		delimiter, wire string
		seen, n         int
		want            string
	}{
		{"", "", 0, 0, ""},
		{"", "half", 4, 0, ""},
		{"", "one\x00two\x00", 0, 4, "one"},
		{"", "\x00", 0, 1, ""},
		{";", "a;b;", 0, 2, "a"},
		{"\r\n", "a\rb\nc\r\n", 0, 7, "a\rb\nc"},
		{"\r\n", "a\r\n", 2, 3, "a"}, // cut within the delimiter
		{"\r\n", "\r\n", 1, 2, ""},
		{"--end--", "x--end--", 7, 8, "x"},
		{"--end--", "x--end--", 1, 8, "x"},
		{"aab", "aaab", 3, 4, "a"}, // a false start within the delimiter
		{"aa", "aaa", 0, 2, ""},    // the first one counts
	} {
		var m Message
		n, err := Delimiter{Bytes: c.delimiter}.Decode([]byte(c.wire), c.seen, 100, &m)
		if n != c.n || err != nil || string(m.Payload) != c.want {
			t.Errorf("%q: Decode(%q, seen %d) = %d, %v, %q, want %d, %q",
				c.delimiter, c.wire, c.seen, n, err, m.Payload, c.n, c.want)
		}
	}
}

// Every payload of up to seven letters with every delimiter of up to four, of an
// alphabet of two: Append accepts exactly the payloads that would arrive unchanged.
func TestDelimiterAppendRefusesExactlyWhatWouldNotArrive(t *testing.T) {
	refused, early := 0, 0
	for _, delimiter := range words(4)[1:] {
		for _, payload := range words(7) {
			arrives := strings.Index(payload+delimiter, delimiter) == len(payload)
			got, err := Delimiter{Bytes: delimiter}.Append(nil, &Message{Payload: []byte(payload)})
			if arrives != (err == nil) {
				t.Fatalf("%q: Append(%q) = %v, but it arrives unchanged: %t", delimiter, payload, err, arrives)
			}
			if err == nil && string(got) != payload+delimiter {
				t.Fatalf("%q: Append(%q) = %q", delimiter, payload, got)
			}
			if !arrives {
				refused++
				if !strings.Contains(payload, delimiter) {
					early++
				}
			}
		}
	}
	if refused == 0 || early == 0 {
		t.Errorf("%d refused, %d of them for a delimiter across the end: nothing was tested", refused, early)
	}
}

// words returns every string of up to size letters a and b, "" first.
func words(size int) []string {
	all := []string{""}
	for i := 0; len(all[i]) < size; i++ {
		all = append(all, all[i]+"a", all[i]+"b")
	}
	return all
}

func FuzzDelimiter(f *testing.F) {
	f.Add([]byte("one\x00two\x00\x00rest"), uint16(4), "")
	f.Add([]byte("one\r\ntwo\r\r\n\r\nrest\r"), uint16(4), "\r\n")
	f.Add([]byte("ababababa"), uint16(3), "aba")
	f.Add([]byte("aaaaaaab"), uint16(5), "aaab")
	f.Add([]byte("x"+wideDelimiter+"y"), uint16(30), wideDelimiter)
	f.Add([]byte(strings.Repeat("x", fuzzMax+2)), uint16(fuzzMax), "--")
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, delimiter string) {
		d := Delimiter{Bytes: delimiter}
		fuzzDecode(t, d, data, int(cut), true)
		m := Message{Payload: data}
		fuzzAppend(t, d, &m, &m)
	})
}
