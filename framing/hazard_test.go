package framing

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
)

const streamMax = 4096 // bytes; more than the biggest message of subject.stream

// Two packets in one read, or one packet in two, must make no difference.
func TestHazard01EverySplitAndCoalesced(t *testing.T) {
	for _, s := range subjects() {
		t.Run(s.name, func(t *testing.T) {
			want, wire := s.stream(t)
			t.Run("coalesced", func(t *testing.T) {
				r := reader{framer: s.framer, max: streamMax}
				if err := r.feed(wire); err != nil {
					t.Fatal(err)
				}
				sameAll(t, r.got, want)
			})
			t.Run("single bytes", func(t *testing.T) {
				r := reader{framer: s.framer, max: streamMax}
				for i := range wire {
					if err := r.feed(wire[i : i+1]); err != nil {
						t.Fatalf("at byte %d: %v", i, err)
					}
				}
				sameAll(t, r.got, want)
			})
			t.Run("cut at every byte", func(t *testing.T) {
				var r reader
				for cut := range wire {
					r = reader{framer: s.framer, max: streamMax, tail: r.tail[:0], got: r.got[:0]}
					for _, piece := range [][]byte{wire[:cut], wire[cut:]} {
						if err := r.feed(piece); err != nil {
							t.Fatalf("cut at %d: %v", cut, err)
						}
					}
					sameAll(t, r.got, want)
				}
			})
		})
	}
}

// Raw has no boundaries to keep, but every byte must arrive, once and in order.
func TestHazard01RawLosesNothing(t *testing.T) {
	wire := []byte(strings.Repeat("0123456789", 5))
	for size := 1; size <= len(wire); size++ {
		r := reader{framer: Raw{}, max: 7}
		for piece := range chunks(wire, size) {
			if err := r.feed(piece); err != nil {
				t.Fatal(err)
			}
		}
		var got []byte
		for _, m := range r.got {
			if len(m.Payload) == 0 || len(m.Payload) > 7 {
				t.Errorf("pieces of %d: a message of %d bytes", size, len(m.Payload))
			}
			got = append(got, m.Payload...)
		}
		if !bytes.Equal(got, wire) {
			t.Errorf("pieces of %d: got %q, want %q", size, got, wire)
		}
	}
}

// chunks cuts b into pieces of size bytes.
func chunks(b []byte, size int) func(func([]byte) bool) {
	return func(yield func([]byte) bool) {
		for len(b) > 0 {
			n := min(size, len(b))
			if !yield(b[:n]) {
				return
			}
			b = b[n:]
		}
	}
}

// A zero-length payload must take its own frame and nothing after it.
func TestHazard03ZeroLengthPayload(t *testing.T) {
	for _, s := range subjects() {
		t.Run(s.name, func(t *testing.T) {
			empty, next := s.message(0, ""), s.message(1, "next")
			frame, err := s.framer.Append(nil, &empty)
			if err != nil {
				t.Fatal(err)
			}
			wire, err := s.framer.Append(bytes.Clone(frame), &next)
			if err != nil {
				t.Fatal(err)
			}
			for _, max := range []int{0, 100} { // an empty message fits any limit
				for _, b := range [][]byte{frame, wire} {
					m := stale()
					n, err := s.framer.Decode(b, 0, max, &m)
					if n != len(frame) || err != nil || !same(&m, &empty) {
						t.Errorf("max %d: Decode(%q) = %d, %v, %+v; want %d, %+v", max, b, n, err, m, len(frame), empty)
					}
				}
			}
			m := stale()
			n, err := s.framer.Decode(wire[len(frame):], 0, 100, &m)
			if n != len(wire)-len(frame) || err != nil || !same(&m, &next) {
				t.Errorf("behind it: Decode = %d, %v, %+v; want %+v", n, err, m, next)
			}
			if n, err := s.framer.Decode(nil, 0, 100, &m); n != 0 || err != nil {
				t.Errorf("no bytes at all: Decode = %d, %v, want 0, nil", n, err)
			}
		})
	}
}

// A megabyte in small pieces must be looked at once, not once a piece. The
// framers with a length in front look at the header alone; those that search
// are measured here by how far back they still find an end of frame.
func TestHazard04SmallPiecesAreScannedOnce(t *testing.T) {
	const total, piece = 1 << 20, 64
	for _, c := range []struct {
		name   string
		framer Framer
		end    string
	}{
		{"Line", Line{}, "\n"},
		{"Line/KeepCR", Line{KeepCR: true}, "\n"},
		{"MuxLine", MuxLine{}, "\n"},
		{"Delimiter", Delimiter{}, "\x00"},
		{"Delimiter/CRLF", Delimiter{Bytes: "\r\n"}, "\r\n"},
		{"Delimiter/wide", Delimiter{Bytes: wideDelimiter}, wideDelimiter},
	} {
		t.Run(c.name, func(t *testing.T) {
			// No byte of UTF-8, so that MuxLine says so at once where it finds an
			// end, and doesn't go through the whole line for each of the probes.
			buf := bytes.Repeat([]byte{0xFF}, total)
			looked, calls := 0, 0
			for seen := 0; seen < total; seen += piece {
				looked += lookedAt(t, c.framer, buf[:seen+piece], seen, c.end)
				calls++
				// Besides the new bytes, a call may look back for the start of
				// an end that was cut in two.
				if limit := seen + piece + calls*len(c.end); looked > limit {
					t.Fatalf("after %d bytes in pieces of %d, %d bytes were looked at, want at most %d",
						seen+piece, piece, looked, limit)
				}
			}
			if looked < total/2 {
				t.Fatalf("%d bytes looked at of %d: the measure is broken", looked, total)
			}
		})
	}
}

// lookedAt returns how many bytes of b, which holds no whole frame, Decode looks
// at when the first seen were seen before. It puts an end of frame at different
// places: Decode finds it exactly if it looks at that place.
func lookedAt(t *testing.T, f Framer, b []byte, seen int, end string) int {
	t.Helper()
	var m Message
	found := func(at int) bool {
		var was [128]byte
		copy(was[:], b[at:at+len(end)])
		copy(b[at:], end)
		n, err := f.Decode(b, seen, math.MaxInt, &m)
		copy(b[at:], was[:len(end)])
		if n != 0 && n != at+len(end) || err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("Decode = %d, %v with an end at %d", n, err, at)
		}
		return n != 0 || err != nil
	}
	// Between low, where it isn't found, and high, where it is. The piece may
	// be smaller than the end itself.
	low, high := -1, len(b)-len(end)
	if high < 0 || !found(high) {
		return 0
	}
	for high-low > 1 {
		if mid := (low + high) / 2; found(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return len(b) - high
}

// A false length is refused from the header alone, before memory is allocated for
// it, even if it is a harmless number when read as signed or shorter.
func TestHazard05LyingLengths(t *testing.T) {
	const max = 1 << 20
	le := binary.LittleEndian
	for _, c := range []struct {
		name   string
		framer Framer
		head   []byte
	}{
		{"packet, max+1", Packet{}, packetHead(0, max+1)},
		{"packet, ext makes it max+1", Packet{}, packetHead(1, max)},
		{"packet, ext makes it 2^32", Packet{}, packetHead(1, math.MaxUint32)},
		{"packet, ext makes it more than 2^32", Packet{}, packetHead(math.MaxUint16, math.MaxUint32)},
		{"packet, negative as int32", Packet{}, packetHead(0, 1<<31)},
		{"packet, -16 as int32", Packet{}, packetHead(0, math.MaxUint32-15)},
		{"packet, 0 as int32 with the header", Packet{}, packetHead(16, math.MaxUint32-31)},
		{"2 bytes", LengthPrefix{Size: 2}, []byte{0xFF, 0xFF}},
		{"4 bytes, max+1", LengthPrefix{}, []byte{0, 0x10, 0, 1}},
		{"4 bytes, -1", LengthPrefix{}, []byte{0xFF, 0xFF, 0xFF, 0xFF}},
		{"4 bytes, -4, 0 with the header", LengthPrefix{}, []byte{0xFF, 0xFF, 0xFF, 0xFC}},
		{"4 bytes, little", LengthPrefix{LittleEndian: true}, le.AppendUint32(nil, 1<<31)},
		{"8 bytes, -1", LengthPrefix{Size: 8}, bytes.Repeat([]byte{0xFF}, 8)},
		{"8 bytes, 0 in its lower half", LengthPrefix{Size: 8}, []byte{0, 0, 0, 1, 0, 0, 0, 0}},
		{"8 bytes, smallest int64", LengthPrefix{Size: 8}, []byte{0x80, 0, 0, 0, 0, 0, 0, 0}},
		{"8 bytes, largest int64", LengthPrefix{Size: 8}, []byte{0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}},
		{"8 bytes, little", LengthPrefix{Size: 8, LittleEndian: true}, le.AppendUint64(nil, 1<<63)},
		{"varint", LengthPrefix{Varint: true}, binary.AppendUvarint(nil, max+1)},
		{"varint, -1", LengthPrefix{Varint: true}, binary.AppendUvarint(nil, math.MaxUint64)},
	} {
		t.Run(c.name, func(t *testing.T) {
			limit := max
			if len(c.head) == 2 {
				limit = math.MaxUint16 - 1 // two bytes can't say more than max
			}
			for _, b := range [][]byte{c.head, append(bytes.Clone(c.head), "some bytes behind it"...)} {
				var m Message
				if n, err := c.framer.Decode(b, 0, limit, &m); n != 0 || !errors.Is(err, ErrTooLarge) {
					t.Errorf("Decode(% x) = %d, %v, want ErrTooLarge", b, n, err)
				}
			}
			for i := range c.head { // and not before the length is whole
				var m Message
				if n, err := c.framer.Decode(c.head[:i], 0, limit, &m); n != 0 || err != nil {
					t.Errorf("Decode(% x) = %d, %v, want 0, nil", c.head[:i], n, err)
				}
			}
		})
	}
}

// Where no limit helps, arithmetic alone must not be fooled: the longest frames
// that an int can count are waited for, and their ends don't wrap around.
func TestHazard05LengthsNearTheLargestInt(t *testing.T) {
	for _, c := range []struct {
		name   string
		framer Framer
		head   []byte
	}{
		{"packet, largest int32", Packet{}, packetHead(0, math.MaxInt32)},
		{"packet, largest int32 in two", Packet{}, packetHead(15, math.MaxInt32-15)},
		{"4 bytes", LengthPrefix{}, []byte{0x7F, 0xFF, 0xFF, 0xFF}},
		{"8 bytes", LengthPrefix{Size: 8}, binary.BigEndian.AppendUint64(nil, math.MaxInt)},
		{"8 bytes, without the header", LengthPrefix{Size: 8}, binary.BigEndian.AppendUint64(nil, math.MaxInt-8)},
		{"varint", LengthPrefix{Varint: true}, binary.AppendUvarint(nil, math.MaxInt)},
	} {
		t.Run(c.name, func(t *testing.T) {
			var m Message
			b := append(c.head, "some bytes behind it"...)
			if n, err := c.framer.Decode(b, 0, math.MaxInt, &m); n != 0 || err != nil {
				t.Errorf("Decode(% x) = %d, %v, want 0, nil", b, n, err)
			}
		})
	}
}

// The limit is exact for every framer, and the same however the stream is cut.
func TestHazard05LimitIsExact(t *testing.T) {
	for _, s := range subjects() {
		for _, size := range []int{0, 1, 2, 200} {
			t.Run(fmt.Sprintf("%s/%d", s.name, size), func(t *testing.T) {
				m := s.message(4, strings.Repeat("x", size))
				wire, err := s.framer.Append(nil, &m)
				if err != nil {
					t.Fatal(err)
				}
				for _, c := range []struct {
					max  int
					want error
				}{{size - 1, ErrTooLarge}, {size, nil}, {size + 1, nil}} {
					if c.max < 0 {
						continue
					}
					for _, piece := range []int{len(wire), 1} {
						r := reader{framer: s.framer, max: c.max}
						var err error
						for b := range chunks(wire, piece) {
							if err = r.feed(b); err != nil {
								break
							}
						}
						if !errors.Is(err, c.want) || (len(r.got) == 1) != (c.want == nil) {
							t.Errorf("max %d in pieces of %d: %d messages, %v, want %v", c.max, piece, len(r.got), err, c.want)
						}
					}
				}
			})
		}
	}
}

// packetHead is a header that declares an extension header and a payload.
func packetHead(ext uint16, payload uint32) []byte {
	b := []byte{1, 0, 0, 0, 0, 0, 0, 9}
	b = binary.BigEndian.AppendUint16(b, ext)
	b = binary.BigEndian.AppendUint32(b, payload)
	return append(b, 0, 0)
}
