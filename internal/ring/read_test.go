package ring

import (
	"fmt"
	"strings"
	"testing"
)

// A consumer that recovers from a panic in the middle of a batch loses no record but the one it was
// handling.
func TestPanicWhileReading(t *testing.T) {
	r := New(0)
	for i := range 10 {
		put(t, r, uint32(i), fmt.Sprint("record ", i))
	}
	var handled []uint32
	batch := func() (more bool) {
		defer func() {
			if recover() != nil {
				more = true
			}
		}()
		for {
			kind, payload, ok := r.Next()
			if !ok {
				return false
			}
			if string(payload) != fmt.Sprint("record ", kind) {
				t.Errorf("kind %d: %q", kind, payload)
			}
			if kind%3 == 0 {
				panic(kind)
			}
			handled = append(handled, kind)
		}
	}
	for batch() {
		if r.Depth() == 0 {
			t.Fatal("space was released in the middle of a batch")
		}
	}
	r.Release()
	if got := fmt.Sprint(handled); got != "[1 2 4 5 7 8]" {
		t.Fatalf("handled %s", got)
	}
	if !r.Empty() {
		t.Fatalf("depth %d", r.Depth())
	}
	checkFree(t, r)
}

// Payloads stay as they are until Release, with producers at work meanwhile.
func TestPayloadsLastUntilRelease(t *testing.T) {
	r := New(0)
	var payloads [][]byte
	for i := range 6 {
		put(t, r, 0, strings.Repeat(string(rune('a'+i)), 500))
		_, payload, _ := r.Next()
		payloads = append(payloads, payload)
	}
	for i := 0; ; i++ {
		c, ok := r.Claim(100)
		if !ok {
			break
		}
		for j := range c.Buf {
			c.Buf[j] = 0xee
		}
		r.Commit(c, 1)
	}
	for i, payload := range payloads {
		if string(payload) != strings.Repeat(string(rune('a'+i)), 500) {
			t.Fatalf("payload %d changed to %.20q", i, payload)
		}
	}
}

// The consumer may change a payload, as a codec that works in place does, and the change doesn't
// outlive Release.
func TestPayloadMayBeChanged(t *testing.T) {
	r := New(0)
	for range 200 {
		put(t, r, 1, strings.Repeat("\x00", 100))
		_, payload, _ := r.Next()
		for i := range payload {
			payload[i] = 0xff
		}
		r.Release()
		checkFree(t, r)
	}
}
