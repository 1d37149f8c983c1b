package framing

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/testkit"
)

// packetVectors are the byte-exact examples of docs/WIRE.md section 1, and one
// for each further field.
var packetVectors = []struct {
	name string
	hex  string
	m    Message
}{
	{"request", "01 00 01 00 00000002 0000 00000004 0000 70696e67",
		Message{Type: Request, ID: 2, Payload: []byte("ping")}},
	{"response", "01 00 02 00 00000002 0000 00000004 0000 706f6e67",
		Message{Type: Response, ID: 2, Payload: []byte("pong")}},
	{"one way", "01 00 00 00 00000001 0000 00000005 0000 68656c6c6f",
		Message{ID: 1, Payload: []byte("hello")}},
	{"nothing", "01 00 00 00 00000000 0000 00000000 0000",
		Message{}},
	{"id order", "01 00 00 00 0a0b0c0d 0000 00000000 0000",
		Message{ID: 0x0A0B0C0D}},
	{"biz type", "01 00 00 ff 00000000 0000 00000000 0000",
		Message{BizType: 255}},
	{"zstd", "01 01 00 00 00000000 0000 00000003 0000 28b52f",
		Message{Compression: CompressionZstd, Payload: []byte{0x28, 0xB5, 0x2F}}},
	{"zlib", "01 02 00 00 00000000 0000 00000002 0000 789c",
		Message{Compression: CompressionZlib, Payload: []byte{0x78, 0x9C}}},
	{"extension header", "01 00 01 00 00000007 0003 00000002 0004 657874 6869",
		Message{Type: Request, ID: 7, Flags: FlagRouteTag, Ext: []byte("ext"), Payload: []byte("hi")}},
	{"extension header alone", "01 00 00 00 00000000 0001 00000000 0000 78",
		Message{Ext: []byte("x")}},
	{"fragment", "01 00 01 00 00000003 0000 00000001 0001 61",
		Message{Type: Request, ID: 3, Flags: FlagFragmented, Payload: []byte("a")}},
	{"high priority", "01 00 00 00 00000000 0000 00000000 0002",
		Message{Flags: FlagHighPriority}},
	{"failed", "01 00 02 00 00000009 0000 00000002 0100 0001",
		Message{Type: Response, ID: 9, Flags: FlagFailed, Payload: []byte{0, 1}}},
	{"more", "01 00 02 00 00000009 0000 00000000 0200",
		Message{Type: Response, ID: 9, Flags: FlagMore}},
	{"cancel", "01 00 00 00 00000009 0000 00000000 0400",
		Message{ID: 9, Flags: FlagCancel}},
	{"unknown flags", "01 00 00 00 00000000 0000 00000000 f8f8",
		Message{Flags: 0xF8F8}},
}

func TestPacketVectors(t *testing.T) {
	for _, v := range packetVectors {
		t.Run(v.name, func(t *testing.T) {
			wire := testkit.Unhex(v.hex)
			got, err := AppendPacket(nil, &v.m)
			if err != nil || !bytes.Equal(got, wire) {
				t.Errorf("AppendPacket = % x, %v, want % x", got, err, wire)
			}
			head, err := Packet{}.AppendHeader([]byte("before"), &v.m)
			if want := append([]byte("before"), wire[:len(wire)-len(v.m.Payload)]...); err != nil || !bytes.Equal(head, want) {
				t.Errorf("AppendHeader = % x, %v, want % x", head, err, want)
			}
			m := stale()
			n, err := Packet{}.Decode(wire, 0, len(v.m.Payload)+len(v.m.Ext), &m)
			if n != len(wire) || err != nil || !same(&m, &v.m) {
				t.Errorf("Decode = %d, %v, %+v, want %d, %+v", n, err, m, len(wire), v.m)
			}
		})
	}
}

func TestPacketRefusesMalformedHeaders(t *testing.T) {
	for _, c := range []struct {
		name string
		hex  string
		want error
		says string
	}{
		{"version 0", "00 00 00 00 00000000 0000 00000000 0000", ErrMalformed, "version 0"},
		{"version 2", "02 00 00 00 00000000 0000 00000000 0000", ErrMalformed, "version 2"},
		{"version 2 and a length that lies", "02 00 00 00 00000000 ffff ffffffff 0000", ErrMalformed, "version 2"},
		{"type 3", "01 00 03 00 00000000 0000 00000000 0000", ErrMalformed, "type 3"},
		{"type 255", "01 00 ff 00 00000000 0000 00000000 0000", ErrMalformed, "type 255"},
		{"compression 3", "01 03 00 00 00000000 0000 00000000 0000", ErrMalformed, "compression 3"},
		{"compression 255", "01 ff 00 00 00000000 0000 00000000 0000", ErrMalformed, "compression 255"},
		{"type 3 and a length that lies", "01 00 03 00 00000000 0000 ffffffff 0000", ErrTooLarge, "4294967295 bytes"},
		{"type 3, payload to come", "01 00 03 00 00000000 0000 00000005 0000", ErrMalformed, "type 3"},
		{"HTTP", hex.EncodeToString([]byte("GET /ws HTTP/1.1\r\n")), ErrMalformed, "version 71"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Message
			n, err := Packet{}.Decode(testkit.Unhex(c.hex), 0, 100, &m)
			if n != 0 || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Decode = %d, %v, want %v with %q", n, err, c.want, c.says)
			}
		})
	}
}

func TestPacketReportsTheVersionFromTheFirstByte(t *testing.T) {
	var m Message
	for size := 1; size < PacketHeaderSize; size++ {
		b := make([]byte, size)
		b[0] = 'G'
		if n, err := (Packet{}).Decode(b, 0, 100, &m); n != 0 || !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes of something else: Decode = %d, %v, want ErrMalformed", size, n, err)
		}
		b[0] = 1
		if n, err := (Packet{}).Decode(b, 0, 100, &m); n != 0 || err != nil {
			t.Errorf("%d bytes of a packet: Decode = %d, %v, want 0, nil", size, n, err)
		}
	}
}

func TestAppendPacketRefuses(t *testing.T) {
	refuses(t, Packet{}, &Message{Type: 3})
	refuses(t, Packet{}, &Message{Compression: 3})
	refuses(t, Packet{}, &Message{Ext: make([]byte, 65536)})
	if _, err := AppendPacket(nil, &Message{Ext: make([]byte, 65535)}); err != nil {
		t.Errorf("the longest extension header: %v", err)
	}
}

func FuzzPacket(f *testing.F) {
	for _, v := range packetVectors {
		f.Add(testkit.Unhex(v.hex), uint16(3), v.m.ID, uint16(v.m.Flags), uint32(v.m.Type)<<16|uint32(v.m.Compression)<<8|uint32(v.m.BizType))
	}
	f.Add(packetHead(65535, 1<<32-1), uint16(16), uint32(1), uint16(0), uint32(0))
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, id uint32, flags uint16, kind uint32) {
		fuzzDecode(t, Packet{}, data, int(cut), true)
		at := min(int(cut), len(data))
		m := Message{
			Ext: data[:at], Payload: data[at:], ID: id, Flags: Flags(flags),
			Type: Type(kind >> 16), Compression: Compression(kind >> 8), BizType: uint8(kind),
		}
		fuzzAppend(t, Packet{}, &m, &m)
	})
}

// TestPacketSizeDoesNotWrap: on a 32-bit int a body near MaxInt32 plus the header must not wrap
// around.
func TestPacketSizeDoesNotWrap(t *testing.T) {
	b := []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0}
	var m Message
	if n, err := (Packet{}).Decode(b, 0, math.MaxInt, &m); n != 0 {
		t.Error(n, err)
	}
}

// BenchmarkPacket measures the calls themselves, without an interface between,
// on a stream of small packets as a read brings them.
func BenchmarkPacket(b *testing.B) {
	var wire []byte
	for range 1000 {
		wire, _ = AppendPacket(wire, &Message{Type: Request, ID: 2, Payload: []byte("ping")})
	}
	out := make([]byte, 0, len(wire))
	var m Message
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		rest := wire
		for b.Loop() {
			n, _ := Packet{}.Decode(rest, 0, 1<<20, &m)
			if rest = rest[n:]; len(rest) == 0 {
				rest = wire
			}
		}
	})
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		dst := out
		for b.Loop() {
			dst, _ = AppendPacket(dst, &m)
			if len(dst) == cap(dst) {
				dst = out
			}
		}
	})
	b.Run("decode+append", func(b *testing.B) {
		b.ReportAllocs()
		rest, dst := wire, out
		for b.Loop() {
			n, _ := Packet{}.Decode(rest, 0, 1<<20, &m)
			dst, _ = AppendPacket(dst, &m)
			if rest = rest[n:]; len(rest) == 0 {
				rest, dst = wire, out
			}
		}
	})
}

// TestNeed: the size of a frame is known from its header on, and right.
func TestNeed(t *testing.T) {
	for name, f := range map[string]interface {
		Framer
		Need(b []byte) int
	}{
		"packet":    Packet{},
		"fixed 4":   LengthPrefix{},
		"fixed 2":   LengthPrefix{Size: 2, LittleEndian: true},
		"fixed 8":   LengthPrefix{Size: 8},
		"varint":    LengthPrefix{Varint: true},
		"no framer": LengthPrefix{Size: 3},
	} {
		b, err := f.Append(nil, &Message{Payload: make([]byte, 300)})
		if err != nil {
			if n := f.Need(make([]byte, 100)); n != 0 {
				t.Errorf("%s: %d", name, n)
			}
			continue
		}
		for cut := range b {
			head := len(b) - 300
			if n := f.Need(b[:cut]); cut < head && n != 0 || cut >= head && n != len(b) {
				t.Errorf("%s: %d of the first %d bytes of %d", name, n, cut, len(b))
			}
		}
	}
	for name, n := range map[string]int{
		"negative as int64": LengthPrefix{Size: 8}.Need([]byte("\xff\xff\xff\xff\xff\xff\xff\xff")),
		"long varint":       LengthPrefix{Varint: true}.Need([]byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
		"another version":   Packet{}.Need(make([]byte, 100)),
	} {
		if n != 0 {
			t.Errorf("%s: %d", name, n)
		}
	}
}
