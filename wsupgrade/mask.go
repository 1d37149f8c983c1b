package wsupgrade

import (
	"crypto/rand"
	"encoding/binary"
	"sync"
)

// applyMask XORs b with the repeated masking key, in place: it masks, and it
// unmasks. key is the four bytes as a little-endian number.
//
// RFC 6455 section 5.3: "Octet i of the transformed data is the XOR of octet i
// of the original data with octet at index i modulo 4 of the masking key".
//
// It is our own, because for messages of a few dozen bytes it takes about half the
// time of ws.Cipher (BenchmarkMask).
func applyMask(b []byte, key uint32) {
	twice := uint64(key)<<32 | uint64(key)
	for len(b) >= 32 {
		v := b[:32:32]
		binary.LittleEndian.PutUint64(v, binary.LittleEndian.Uint64(v)^twice)
		binary.LittleEndian.PutUint64(v[8:], binary.LittleEndian.Uint64(v[8:])^twice)
		binary.LittleEndian.PutUint64(v[16:], binary.LittleEndian.Uint64(v[16:])^twice)
		binary.LittleEndian.PutUint64(v[24:], binary.LittleEndian.Uint64(v[24:])^twice)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^twice)
		b = b[8:]
	}
	if len(b) >= 4 {
		binary.LittleEndian.PutUint32(b, binary.LittleEndian.Uint32(b)^key)
		b = b[4:]
	}
	for i := range b {
		b[i] ^= byte(key >> (8 * i))
	}
}

// maskKeys is a buffer of random masking keys: one read from the system serves 256
// frames.
type maskKeys struct {
	buf  [256 * maskSize]byte
	left int // unused bytes, at the start of buf
}

var maskSupply = sync.Pool{New: func() any { return new(maskKeys) }}

// newMask returns a fresh masking key.
//
// RFC 6455 section 5.3: "The masking key needs to be unpredictable; thus, the
// masking key MUST be derived from a strong source of entropy".
func newMask() uint32 {
	k := maskSupply.Get().(*maskKeys)
	if k.left == 0 {
		_, _ = rand.Read(k.buf[:]) // documented never to fail
		k.left = len(k.buf)
	}
	k.left -= maskSize
	key := binary.LittleEndian.Uint32(k.buf[k.left:])
	maskSupply.Put(k)
	return key
}
