//go:build unix && (amd64 || arm64)

package framing

import (
	"errors"
	"syscall"
	"testing"
)

// A payload of 4 GiB doesn't fit a length of 32 bits. The bytes are address space
// without memory, so a function that accesses one of them crashes.
func TestAppendRefusesFourGiB(t *testing.T) {
	huge, err := syscall.Mmap(-1, 0, 1<<32, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Skipf("no 4 GiB of address space: %v", err)
	}
	defer func() {
		if err := syscall.Munmap(huge); err != nil {
			t.Error(err)
		}
	}()
	for _, f := range []Framer{Packet{}, LengthPrefix{}, LengthPrefix{Size: 4, LittleEndian: true}, LengthPrefix{Size: 2}} {
		got, err := f.Append([]byte("before"), &Message{Payload: huge})
		if !errors.Is(err, ErrUnencodable) || string(got) != "before" {
			t.Errorf("%T%+v: Append = %.20q, %v, want ErrUnencodable", f, f, got, err)
		}
	}
}
