//go:build !linux

package cpu

import (
	"errors"
	"testing"
)

func TestPinIsUnsupported(t *testing.T) {
	if err := Pin(0); !errors.Is(err, errors.ErrUnsupported) {
		t.Fatalf("got %v", err)
	}
}
