package engine

import "testing"

// BenchmarkBlock takes and frees a block, as a message does that is not answered through
// the reply buffer.
func BenchmarkBlock(b *testing.B) {
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			newBlock(minBlockSize).free()
		}
	})
}
