package wsupgrade

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/gobwas/ws"
)

// TestMaskAgainstGobwas compares with ws.Cipher for every length up to 200 and
// every alignment.
func TestMaskAgainstGobwas(t *testing.T) {
	var source [256]byte
	for i := range source {
		source[i] = byte(rand.Uint32())
	}
	for length := range 200 {
		for offset := range 8 {
			key := rand.Uint32()
			var mask [4]byte
			binary.LittleEndian.PutUint32(mask[:], key)
			got, want := source, source
			applyMask(got[offset:offset+length], key)
			ws.Cipher(want[offset:offset+length], mask, 0)
			if got != want {
				t.Fatalf("length %d at %d: % x, want % x", length, offset, got[:length+offset+1], want[:length+offset+1])
			}
		}
	}
}

// TestMaskExample is RFC 6455 section 5.7's masked "Hello".
func TestMaskExample(t *testing.T) {
	b := []byte{0x7f, 0x9f, 0x4d, 0x51, 0x58}
	applyMask(b, binary.LittleEndian.Uint32([]byte{0x37, 0xfa, 0x21, 0x3d}))
	if !bytes.Equal(b, []byte("Hello")) {
		t.Errorf("unmasked to %q", b)
	}
}

// TestNewMaskIsFresh draws more keys than one read of randomness holds.
func TestNewMaskIsFresh(t *testing.T) {
	const draws = 4096
	seen := make(map[uint32]int, draws)
	for range draws {
		seen[newMask()]++
	}
	// Of 4096 random 32-bit numbers two are alike once in 500 runs; eight pairs
	// never happen.
	if len(seen) < draws-8 {
		t.Errorf("%d different keys of %d", len(seen), draws)
	}
}

func BenchmarkMask(b *testing.B) {
	for _, size := range []int{4, 20, 80, 125, 1024, 16384} {
		buf := make([]byte, size)
		b.Run(fmt.Sprintf("ours/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				applyMask(buf, 0x3d21fa37)
			}
		})
		b.Run(fmt.Sprintf("gobwas/%d", size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				ws.Cipher(buf, [4]byte{0x37, 0xfa, 0x21, 0x3d}, 0)
			}
		})
	}
}

func BenchmarkNewMask(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		newMask()
	}
}
