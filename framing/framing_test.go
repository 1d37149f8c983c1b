package framing

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// subject is a built-in framer under the tests that hold for all of them.
type subject struct {
	name    string
	framer  Framer
	alien   string // a payload that this framer can't carry; empty if there is none
	biggest int    // the largest payload in bytes that it can carry, 0 if there is no bound
	role    Type   // the type of every decoded message; Packet carries the message's own
}

// wideDelimiter is longer than the buffer that the compiler gives to a string
// that is converted on the stack.
var wideDelimiter = "--" + strings.Repeat("=", 60) + "--"

func subjects() []subject {
	return []subject{
		{name: "Packet", framer: Packet{}},
		{name: "Line", framer: Line{}, alien: "two\nlines"},
		{name: "Line/KeepCR", framer: Line{KeepCR: true}, alien: "two\nlines"},
		{name: "MuxLine/Server", framer: MuxLine{}, alien: "two\nlines", role: Request},
		{name: "MuxLine/Client", framer: MuxLine{Role: Client}, alien: "not \xff UTF-8", role: Response},
		{name: "LengthPrefix", framer: LengthPrefix{}},
		{name: "LengthPrefix/1", framer: LengthPrefix{Size: 1}, alien: strings.Repeat("x", 256), biggest: 255},
		{name: "LengthPrefix/2", framer: LengthPrefix{Size: 2}, alien: strings.Repeat("x", 65536), biggest: 65535},
		{name: "LengthPrefix/4/little", framer: LengthPrefix{Size: 4, LittleEndian: true}},
		{name: "LengthPrefix/8", framer: LengthPrefix{Size: 8}},
		{name: "LengthPrefix/8/little", framer: LengthPrefix{Size: 8, LittleEndian: true}},
		{name: "LengthPrefix/varint", framer: LengthPrefix{Varint: true}},
		{name: "Delimiter", framer: Delimiter{}, alien: "two\x00parts"},
		{name: "Delimiter/CRLF", framer: Delimiter{Bytes: "\r\n"}, alien: "two\r\nparts"},
		{name: "Delimiter/aba", framer: Delimiter{Bytes: "aba"}, alien: "so ab"},
		{name: "Delimiter/wide", framer: Delimiter{Bytes: wideDelimiter}, alien: wideDelimiter},
	}
}

// withRaw is subjects and Raw, for the tests that ask for no boundaries.
func withRaw() []subject {
	return append(subjects(), subject{name: "Raw", framer: Raw{}})
}

// hasID reports whether the subject's frames carry an ID.
func (s subject) hasID() bool {
	_, mux := s.framer.(MuxLine)
	return mux || s.isPacket()
}

func (s subject) isPacket() bool {
	_, packet := s.framer.(Packet)
	return packet
}

// message returns a message that the subject can carry, with every field that
// travels set, and which Decode must give back exactly.
func (s subject) message(id uint32, payload string) Message {
	m := Message{Payload: []byte(payload), Type: s.role}
	if s.hasID() {
		m.ID = id
	}
	if s.isPacket() {
		m.Type = Type(id % 3)
		m.Compression = Compression(id / 3 % 3)
		m.BizType = uint8(id + 7)
		m.Flags = Flags(id * 0x0101)
		m.Ext = bytes.Repeat([]byte{'\n'}, int(id%4))
	}
	return m
}

// stream returns fifty messages for the subject and their frames in a row:
// empty ones, big ones, ids that contain line feeds, and payloads that contain
// parts of delimiters, headers of other framings and much else.
func (s subject) stream(t testing.TB) (want []Message, wire []byte) {
	t.Helper()
	big := 1000
	if s.biggest != 0 && s.biggest < big {
		big = s.biggest
	}
	payloads := []string{
		"", "ping", "", "\r", "\r\r", "x", "\ra\rb", "aabb", "--=--", "żółw 水 ☃",
		"\x01\x02\x03\x04", "", strings.Repeat("y", 127), strings.Repeat("z", 128),
	}
	ids := []uint32{0, 0x0A, 0x0A0A0A0A, 0x0A000000, 0x00000A00, 1, 0x0D0A0D0A, 0xFFFFFFFF}
	for i := range 50 {
		payload := payloads[i%len(payloads)]
		if i%25 == 20 {
			payload = strings.Repeat("b", big)
		}
		m := s.message(ids[i%len(ids)]+uint32(i/len(ids)), payload)
		var err error
		if wire, err = s.framer.Append(wire, &m); err != nil {
			t.Fatalf("message %d (%.20q): %v", i, m.Payload, err)
		}
		want = append(want, m)
	}
	return want, wire
}

// reader is the smallest correct user of a Framer: it keeps an incomplete frame,
// and passes how much of it Decode has seen.
type reader struct {
	framer Framer
	max    int
	tail   []byte
	seen   int
	got    []Message
}

// feed takes one piece of the stream and appends the messages that it completes to
// r.got. They keep their bytes: the bytes before r.tail are never written again.
func (r *reader) feed(piece []byte) error {
	r.tail = append(r.tail, piece...)
	for {
		m := stale()
		n, err := r.framer.Decode(r.tail, r.seen, r.max, &m)
		if err != nil {
			return err
		}
		if n == 0 {
			r.seen = len(r.tail)
			return nil
		}
		r.got = append(r.got, m)
		r.tail, r.seen = r.tail[n:], 0
	}
}

// stale returns a message with every field set to something, as a Message that
// is used again has.
func stale() Message {
	return Message{
		Payload: []byte("stale"), Ext: []byte("stale"), Stream: 99, ID: 99, Flags: 0xFFFF, Type: 99,
		BizType: 99, Compression: 99, Text: true, Datagram: true,
	}
}

// same compares messages field by field; nil and empty bytes are the same.
func same(a, b *Message) bool {
	return bytes.Equal(a.Payload, b.Payload) && bytes.Equal(a.Ext, b.Ext) &&
		a.Stream == b.Stream && a.ID == b.ID && a.Flags == b.Flags && a.Type == b.Type &&
		a.BizType == b.BizType && a.Compression == b.Compression && a.Text == b.Text && a.Datagram == b.Datagram
}

// sameAll fails the test if got isn't want.
func sameAll(t testing.TB, got, want []Message) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d messages, want %d", len(got), len(want))
	}
	for i := range want {
		if !same(&got[i], &want[i]) {
			t.Fatalf("message %d: got %+v, want %+v", i, got[i], want[i])
		}
	}
}

// kindOf reduces an error of Decode to the sentinel that it wraps.
func kindOf(err error) error {
	for _, kind := range []error{ErrTooLarge, ErrMalformed, ErrUnencodable} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return err
}

func TestStaleAndSameKnowEveryField(t *testing.T) {
	full := stale()
	fields := reflect.ValueOf(&full).Elem()
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		if fields.Field(i).IsZero() {
			t.Errorf("stale leaves %s at zero", name)
		}
		changed := stale()
		reflect.ValueOf(&changed).Elem().Field(i).SetZero()
		if same(&full, &changed) {
			t.Errorf("same doesn't compare %s", name)
		}
	}
}

func TestDecodeSetsEveryField(t *testing.T) {
	for _, s := range withRaw() {
		t.Run(s.name, func(t *testing.T) {
			want := s.message(4, "hello") // id 4: OneWay or not, no extension header
			wire, err := s.framer.Append(nil, &want)
			if err != nil {
				t.Fatal(err)
			}
			got := stale()
			n, err := s.framer.Decode(wire, 0, 100, &got)
			if n != len(wire) || err != nil {
				t.Fatalf("Decode = %d, %v, want %d", n, err, len(wire))
			}
			if !same(&got, &want) {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestDecodedBytesEndWhereTheyEnd(t *testing.T) {
	for _, s := range withRaw() {
		t.Run(s.name, func(t *testing.T) {
			first, second := s.message(3, "first"), s.message(4, "second")
			wire, _ := s.framer.Append(nil, &first)
			wire, _ = s.framer.Append(wire, &second)
			before := bytes.Clone(wire)
			var m Message
			if n, err := s.framer.Decode(wire, 0, 100, &m); n == 0 || err != nil {
				t.Fatalf("Decode = %d, %v", n, err)
			}
			_ = append(m.Payload, "overwritten"...)
			_ = append(m.Ext, "overwritten"...)
			if !bytes.Equal(wire, before) {
				t.Errorf("appending to a decoded message changed the stream behind it: %q", wire)
			}
			wire[bytes.Index(wire, []byte("first"))] = 'F'
			if m.Payload[0] != 'F' {
				t.Error("the payload is a copy, not the bytes themselves")
			}
		})
	}
}

func TestAppendKeepsWhatIsThere(t *testing.T) {
	for _, s := range withRaw() {
		t.Run(s.name, func(t *testing.T) {
			m := s.message(5, "hello")
			alone, err := s.framer.Append(nil, &m)
			if err != nil {
				t.Fatal(err)
			}
			tight := []byte("before")
			roomy := append(make([]byte, 0, 1000), "before"...)
			for _, dst := range [][]byte{tight[:6:6], roomy} {
				got, err := s.framer.Append(dst, &m)
				if err != nil || string(got) != "before"+string(alone) {
					t.Errorf("capacity %d: got %q, %v, want %q", cap(dst), got, err, "before"+string(alone))
				}
			}
		})
	}
}

func TestAppendRefuses(t *testing.T) {
	for _, s := range subjects() {
		if s.alien == "" {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			refuses(t, s.framer, &Message{Payload: []byte(s.alien)})
		})
	}
}

// refuses fails the test unless Append refuses m and leaves dst alone, also the
// bytes in its unused capacity.
func refuses(t *testing.T, f Framer, m *Message) {
	t.Helper()
	backing := bytes.Repeat([]byte{'.'}, 100_000)
	copy(backing, "before")
	got, err := f.Append(backing[:6], m)
	if !errors.Is(err, ErrUnencodable) {
		t.Errorf("%T%+v: Append(%.40q) = %v, want ErrUnencodable", f, f, m.Payload, err)
	}
	if string(got) != "before" || bytes.Count(backing[6:], []byte{'.'}) != len(backing)-6 {
		t.Errorf("%T%+v: a refused message changed dst", f, f)
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	for _, s := range withRaw() {
		t.Run(s.name, func(t *testing.T) {
			// Eight bytes fill an allocation of their own, so that a header which
			// wasn't reserved for shows.
			m := s.message(7, "12345678")
			wire, _ := s.framer.Append(nil, &m)
			partial := wire[:len(wire)-1]
			var got Message
			if a := testing.AllocsPerRun(100, func() { s.framer.Decode(wire, 0, 100, &got) }); a != 0 {
				t.Errorf("Decode allocates %v times", a)
			}
			if a := testing.AllocsPerRun(100, func() { s.framer.Decode(partial, 0, 100, &got) }); a != 0 {
				t.Errorf("Decode of a part allocates %v times", a)
			}
			dst := make([]byte, 0, 1000)
			if a := testing.AllocsPerRun(100, func() { s.framer.Append(dst, &m) }); a != 0 {
				t.Errorf("Append allocates %v times", a)
			}
			// Under the race detector slices.Grow itself allocates twice when it
			// adds more than 32 bytes.
			if len(wire) > 32 {
				return
			}
			if a := testing.AllocsPerRun(100, func() { s.framer.Append(dst[:0:1], &m) }); a != 1 {
				t.Errorf("Append to a full slice allocates %v times, want 1", a)
			}
		})
	}
}

func TestClone(t *testing.T) {
	m := stale()
	c := m.Clone()
	if !same(&m, c) {
		t.Fatalf("clone is %+v, want %+v", *c, m)
	}
	m.Payload[0], m.Ext[0] = 'X', 'X'
	if string(c.Payload) != "stale" || string(c.Ext) != "stale" {
		t.Error("the clone shares its bytes")
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range withRaw() {
		b.Run(s.name, func(b *testing.B) {
			m := Message{ID: 2, Type: Request, Payload: []byte("ping")}
			wire, _ := s.framer.Append(nil, &m)
			b.ReportAllocs()
			for b.Loop() {
				s.framer.Decode(wire, 0, 1<<20, &m)
			}
		})
	}
}

func BenchmarkAppend(b *testing.B) {
	for _, s := range withRaw() {
		b.Run(s.name, func(b *testing.B) {
			m := Message{ID: 2, Type: Request, Payload: []byte("ping")}
			dst := make([]byte, 0, 256)
			b.ReportAllocs()
			for b.Loop() {
				s.framer.Append(dst, &m)
			}
		})
	}
}
