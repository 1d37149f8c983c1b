package packet_test

import (
	"bytes"
	"math"
	"testing"

	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/packet"
)

// messages have every field that a header carries, at its bounds and between.
func messages() []framing.Message {
	return []framing.Message{
		{},
		{Payload: []byte("hello")},
		{Type: framing.Request, ID: 2, Payload: []byte("ping")},
		{Type: framing.Response, ID: math.MaxUint32, BizType: 255, Flags: 0xF8F8, Compression: framing.CompressionZlib},
		{Type: framing.Request, ID: 0x0A0B0C0D, BizType: 7, Compression: framing.CompressionZstd,
			Flags: framing.FlagRouteTag, Ext: []byte("ext"), Payload: []byte("hi")},
		{Ext: make([]byte, math.MaxUint16), Payload: make([]byte, 100)},
	}
}

// encode appends m as a packet to dst, by framing.
func encode(t testing.TB, dst []byte, m *framing.Message) []byte {
	t.Helper()
	dst, err := framing.AppendPacket(dst, m)
	if err != nil {
		t.Fatal(err)
	}
	return dst
}

func TestHeader(t *testing.T) {
	for _, m := range messages() {
		wire := encode(t, nil, &m)
		h := packet.ReadHeader(wire)
		want := packet.Header{
			Head: packet.Version<<56 | uint64(m.Compression)<<48 | uint64(m.Type)<<40 | uint64(m.BizType)<<32 | uint64(m.ID),
			Tail: uint64(len(m.Ext))<<48 | uint64(len(m.Payload))<<16 | uint64(m.Flags),
		}
		if h != want {
			t.Errorf("%+v: read %x, want %x", m, h, want)
		}
		var head [packet.HeaderSize]byte
		if h.Put(&head); !bytes.Equal(head[:], wire[:len(head)]) || head[0] != packet.Version {
			t.Errorf("put % x, want % x", head, wire[:len(head)])
		}
		body := len(m.Ext) + len(m.Payload)
		if n, ok := h.Size(body); n != len(wire) || !ok {
			t.Errorf("%d bytes, %v, want %d", n, ok, len(wire))
		}
		if _, ok := h.Size(body - 1); ok && body > 0 {
			t.Errorf("%d bytes are accepted above the limit", body)
		}
	}
}

// TestSizeRefuses changes each byte that has to have certain values.
func TestSizeRefuses(t *testing.T) {
	for at, most := range map[int]int{0: 1, 1: 2, 2: 2} {
		for v := range 256 {
			head := []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
			head[at] = byte(v)
			_, ok := packet.ReadHeader(head).Size(0)
			if want := v <= most && (at > 0 || v == 1); ok != want {
				t.Errorf("byte %d is %d: %v", at, v, ok)
			}
		}
	}
}

// TestSizeDoesNotWrap: where an int has 32 bits, the sum of a body near MaxInt32
// and the header must not become negative.
func TestSizeDoesNotWrap(t *testing.T) {
	b := []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0}
	if size, count := packet.Run(b, math.MaxInt, 1<<20); size != 0 || count != 0 {
		t.Error(size, count)
	}
}

// compareRun compares Run with the packets that framing decodes one by one.
func compareRun(t *testing.T, data []byte, limit int) {
	t.Helper()
	const max = 1 << 10
	var m framing.Message
	size, count := 0, 0
	for {
		n, _ := framing.Packet{}.Decode(data[size:], 0, max, &m)
		if n == 0 || size+n > limit {
			break
		}
		size += n
		count++
	}
	if s, c := packet.Run(data, max, limit); s != size || c != count {
		t.Errorf("Run: %d packets in %d bytes; Decode: %d in %d", c, s, count, size)
	}
}

func TestRun(t *testing.T) {
	var wire []byte
	for i := range 20 {
		wire = encode(t, wire, &framing.Message{ID: uint32(i), Ext: make([]byte, i%3), Payload: make([]byte, i*7)})
	}
	wrong := append(bytes.Clone(wire), 2)
	large := encode(t, bytes.Clone(wire), &framing.Message{Payload: make([]byte, 1<<10+1)})[:len(wire)+packet.HeaderSize]
	for limit := range len(wire) + 40 {
		compareRun(t, wire, limit)
		compareRun(t, wire[:limit/2], limit)
		compareRun(t, wrong, limit)
		compareRun(t, large, limit)
	}
	if size, count := packet.Run(wire, 1<<10, len(wire)); size != len(wire) || count != 20 {
		t.Errorf("%d packets in %d bytes", count, size)
	}
}

func FuzzRun(f *testing.F) {
	var wire []byte
	for _, m := range messages() {
		one := encode(f, nil, &m)
		wire = append(wire, one...)
		f.Add(one, uint16(len(one)))
	}
	f.Add(wire, uint16(40))
	f.Add(append(wire[:80:80], "GET / HTTP/1.1\r\n\r\n"...), uint16(200))
	f.Fuzz(func(t *testing.T, data []byte, limit uint16) { compareRun(t, data, int(limit)) })
}

// TestPutReply compares its result with AppendPacket of the answer.
func TestPutReply(t *testing.T) {
	payload := []byte("pong")
	for _, m := range messages() {
		answer := framing.Message{ID: m.ID, BizType: m.BizType, Payload: payload}
		if m.Type == framing.Request {
			answer.Type = framing.Response
		}
		want := encode(t, nil, &answer)
		got := bytes.Repeat([]byte{0xFF}, len(want))
		packet.PutReply(got, m.Type == framing.Request, m.BizType, m.ID, payload)
		if !bytes.Equal(got, want) {
			t.Errorf("% x, want % x", got, want)
		}
	}
}

func TestNoAllocations(t *testing.T) {
	wire := encode(t, nil, &framing.Message{Type: framing.Request, ID: 2, Payload: []byte("ping")})
	dst := make([]byte, len(wire))
	if n := testing.AllocsPerRun(100, func() {
		size, _ := packet.Run(wire, 1<<10, len(wire))
		h := packet.ReadHeader(wire[:size])
		packet.PutReply(dst, true, uint8(h.Head>>32), uint32(h.Head), wire[packet.HeaderSize:size])
	}); n != 0 {
		t.Error(n, "allocations")
	}
}
