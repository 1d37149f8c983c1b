package framing

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/testkit"
)

// The format of docs/WIRE.md section 2, to the byte.
var muxLineVectors = []struct {
	hex string
	id  uint32
	msg string
}{
	{"00000000 0a", 0, ""},
	{"00000001 68656c6c6f 0a", 1, "hello"},
	{"0000000a 68690a", 10, "hi"},
	{"0a0a0a0a 0a", 0x0A0A0A0A, ""},
	{"0a0a0a0a 0d 0a", 0x0A0A0A0A, "\r"},
	{"deadbeef c5bc c3b3 c582 77 0a", 0xDEADBEEF, "żółw"},
}

func TestMuxLineVectors(t *testing.T) {
	for _, v := range muxLineVectors {
		wire := testkit.Unhex(v.hex)
		for role, kind := range map[Role]Type{Server: Request, Client: Response} {
			l := MuxLine{Role: role}
			got := stale()
			want := Message{Type: kind, ID: v.id, Payload: []byte(v.msg)}
			n, err := l.Decode(wire, 0, 100, &got)
			if n != len(wire) || err != nil || !same(&got, &want) {
				t.Errorf("client %t: Decode(% x) = %d, %v, %+v, want %d, %+v", role, wire, n, err, got, len(wire), want)
			}
			for _, anyType := range []Type{OneWay, Request, Response} {
				m := Message{Type: anyType, ID: v.id, Payload: []byte(v.msg)}
				if enc, err := l.Append(nil, &m); err != nil || !bytes.Equal(enc, wire) {
					t.Errorf("client %t: Append(%+v) = % x, %v, want % x", role, m, enc, err, wire)
				}
			}
		}
	}
}

func TestMuxLineWaitsForFiveBytes(t *testing.T) {
	var m Message
	for size := range 5 { // line feeds all of them, but the id's
		if n, err := (MuxLine{}).Decode(bytes.Repeat([]byte{'\n'}, size), 0, 100, &m); n != 0 || err != nil {
			t.Errorf("%d bytes: Decode = %d, %v, want 0, nil", size, n, err)
		}
	}
	if n, err := (MuxLine{}).Decode(bytes.Repeat([]byte{'\n'}, 5), 4, 100, &m); n != 5 || err != nil {
		t.Errorf("5 bytes: Decode = %d, %v, want 5, nil", n, err)
	}
}

func TestMuxLineRefusesWhatIsNotUTF8(t *testing.T) {
	for _, text := range []string{"\xff", "half \xc5", "\xc0\x80 overlong", "\xed\xa0\x80 surrogate", "\xf4\x90\x80\x80 beyond"} {
		var m Message
		if n, err := (MuxLine{}).Decode([]byte("\x00\x00\x00\x01"+text+"\n"), 0, 100, &m); n != 0 || !errors.Is(err, ErrMalformed) {
			t.Errorf("Decode(%q) = %d, %v, want ErrMalformed", text, n, err)
		}
		refuses(t, MuxLine{}, &Message{Payload: []byte(text)})
	}
	// An id need not be UTF-8.
	var m Message
	if n, err := (MuxLine{}).Decode([]byte("\xff\xff\xff\xffok\n"), 0, 100, &m); n != 7 || err != nil {
		t.Errorf("an id of ff ff ff ff: Decode = %d, %v, want 7, nil", n, err)
	}
}

func FuzzMuxLine(f *testing.F) {
	for _, v := range muxLineVectors {
		f.Add(testkit.Unhex(v.hex), uint16(4), v.id, false)
	}
	f.Add([]byte("\n\n\n\n\n\n\n\n\n\nabc"), uint16(5), uint32(0x0A0A0A0A), true)
	f.Add([]byte("\x00\x00\x00\x01half \xc5\n"), uint16(10), uint32(0), false)
	f.Add([]byte("1234"+strings.Repeat("x", fuzzMax+1)), uint16(fuzzMax+4), uint32(0), true)
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, id uint32, client bool) {
		l := MuxLine{Role: Role(client)}
		fuzzDecode(t, l, data, int(cut), true)
		m := Message{Payload: data, ID: id, Type: Request}
		if client {
			m.Type = Response
		}
		fuzzAppend(t, l, &m, &m)
	})
}
