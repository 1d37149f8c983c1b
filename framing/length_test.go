package framing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/testkit"
)

func TestLengthPrefixVectors(t *testing.T) {
	long := strings.Repeat("x", 300) // 0x012c
	for _, c := range []struct {
		framer  LengthPrefix
		payload string
		head    string
	}{
		{LengthPrefix{}, "ping", "00000004"},
		{LengthPrefix{}, long, "0000012c"},
		{LengthPrefix{LittleEndian: true}, long, "2c010000"},
		{LengthPrefix{Size: 1}, "", "00"},
		{LengthPrefix{Size: 1}, long[:255], "ff"},
		{LengthPrefix{Size: 1, LittleEndian: true}, long[:200], "c8"},
		{LengthPrefix{Size: 2}, long, "012c"},
		{LengthPrefix{Size: 2, LittleEndian: true}, long, "2c01"},
		{LengthPrefix{Size: 4}, long, "0000012c"},
		{LengthPrefix{Size: 4, LittleEndian: true}, long, "2c010000"},
		{LengthPrefix{Size: 8}, long, "000000000000012c"},
		{LengthPrefix{Size: 8, LittleEndian: true}, long, "2c01000000000000"},
		{LengthPrefix{Varint: true}, "", "00"},
		{LengthPrefix{Varint: true}, long[:127], "7f"},
		{LengthPrefix{Varint: true}, long[:128], "8001"},
		{LengthPrefix{Varint: true}, long, "ac02"},
	} {
		if err := c.framer.Validate(); err != nil {
			t.Errorf("%+v: Validate: %v", c.framer, err)
		}
		want := append(testkit.Unhex(c.head), c.payload...)
		got, err := c.framer.Append(nil, &Message{Payload: []byte(c.payload)})
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%+v: Append(%.10q) = %.40x, %v, want %.40x", c.framer, c.payload, got, err, want)
		}
		var m Message
		n, err := c.framer.Decode(want, 0, 300, &m)
		if n != len(want) || err != nil || string(m.Payload) != c.payload {
			t.Errorf("%+v: Decode(%.40x) = %d, %v, %.20q", c.framer, want, n, err, m.Payload)
		}
	}
}

// The varint must be the one of encoding/binary for every width that it has.
func TestLengthPrefixVarintAgreesWithEncodingBinary(t *testing.T) {
	for shift := range 64 {
		for _, v := range []uint64{1<<shift - 1, 1 << shift, 1<<shift + 1} {
			b := binary.AppendUvarint(nil, v)
			if got, n, err := decodeVarint(append(b, 0xFF)); got != v || n != len(b) || err != nil {
				t.Errorf("decodeVarint(% x) = %d, %d, %v, want %d, %d", b, got, n, err, v, len(b))
			}
			for i := range b {
				if _, n, err := decodeVarint(b[:i]); n != 0 || err != nil {
					t.Errorf("decodeVarint(% x) = _, %d, %v, want 0, nil", b[:i], n, err)
				}
			}
		}
	}
}

func TestLengthPrefixRefusesOverlongVarints(t *testing.T) {
	for _, head := range []string{
		"80 00",                         // 0 in two bytes
		"ff 00",                         // 127 in two bytes
		"81 80 80 00",                   // 1 in four
		"80 80 80 80 80 80 80 80 80 00", // 0 in ten
		"ff ff ff ff ff ff ff ff ff 02", // the 65th bit
		"ff ff ff ff ff ff ff ff ff 81", // an eleventh byte to come
		"80 80 80 80 80 80 80 80 80 80", // the same, without a bit
	} {
		var m Message
		if n, err := (LengthPrefix{Varint: true}).Decode(testkit.Unhex(head), 0, 1000, &m); n != 0 || !errors.Is(err, ErrMalformed) {
			t.Errorf("Decode(%s) = %d, %v, want ErrMalformed", head, n, err)
		}
	}
}

func TestLengthPrefixValidate(t *testing.T) {
	for _, c := range []struct {
		framer LengthPrefix
		field  string
	}{
		{LengthPrefix{Size: -1}, "Size"},
		{LengthPrefix{Size: 3}, "Size"},
		{LengthPrefix{Size: 16}, "Size"},
		{LengthPrefix{Size: 4, Varint: true}, "Size"},
		{LengthPrefix{LittleEndian: true, Varint: true}, "LittleEndian"},
	} {
		err := c.framer.Validate()
		if !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "LengthPrefix."+c.field) {
			t.Errorf("%+v: Validate = %v, want ErrConfig that names %s", c.framer, err, c.field)
		}
		var m Message
		for _, b := range [][]byte{nil, make([]byte, 32)} {
			n, err := c.framer.Decode(b, 0, 1000, &m)
			if n != 0 || !errors.Is(err, ErrMalformed) || !errors.Is(err, ErrConfig) {
				t.Errorf("%+v: Decode = %d, %v, want ErrMalformed and ErrConfig", c.framer, n, err)
			}
		}
		if _, err := c.framer.Append(nil, &m); !errors.Is(err, ErrUnencodable) || !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: Append: %v, want ErrUnencodable and ErrConfig", c.framer, err)
		}
	}
}

func FuzzLengthPrefix(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x04ping\x00\x00\x00\x00\x00\x00\x00\x02hi"), uint16(5), uint8(4), false)
	f.Add([]byte("\x04\x00\x00\x00ping\x00\x00\x00\x00"), uint16(2), uint8(4), true)
	f.Add([]byte("\x04ping\x00\x02hi\xff"), uint16(6), uint8(1), false)
	f.Add([]byte("\x00\x04ping\x00\x00\xff\xff"), uint16(1), uint8(2), false)
	f.Add([]byte("\x00\x00\x00\x00\x00\x00\x00\x01x\xff\xff\xff\xff\xff\xff\xff\xff"), uint16(7), uint8(8), false)
	f.Add([]byte("\x04ping\x80\x00"), uint16(6), uint8(0), false)
	f.Add([]byte("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80"), uint16(9), uint8(0), false)
	f.Add([]byte("\x00"), uint16(0), uint8(3), true)
	f.Fuzz(func(t *testing.T, data []byte, cut uint16, size uint8, little bool) {
		// Size 0 here is a varint; as a width it is the same as 4.
		l := LengthPrefix{Size: int(size), LittleEndian: little, Varint: size == 0}
		fuzzDecode(t, l, data, int(cut), true)
		m := Message{Payload: data}
		fuzzAppend(t, l, &m, &m)
	})
}
