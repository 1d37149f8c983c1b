package wsupgrade

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// idleSession takes control frames and forgets them.
type idleSession struct{}

func (idleSession) SendControl([]byte) error { return nil }
func (idleSession) Establish()               {}
func (idleSession) SetValue(any, any)        {}
func (idleSession) Authorize() bool          { return true }
func (idleSession) Session() *engine.Session { return nil }

// decodeAll takes everything in b and returns how many messages it held. b is
// spoiled: masks are removed in place.
func decodeAll(tb testing.TB, c *codec, b []byte, m *framing.Message) (messages int) {
	for len(b) > 0 {
		n, ok, err := c.decode(idleSession{}, b, 0, m)
		if n == 0 || err != nil {
			tb.Fatalf("%d bytes left: %v", len(b), err)
		}
		if ok {
			messages++
		}
		b = b[n:]
	}
	return messages
}

// TestDecodeDoesNotAllocate covers messages, fragments, pings and pongs in both
// roles and on both kinds of path.
func TestDecodeDoesNotAllocate(t *testing.T) {
	if testkit.RaceEnabled {
		t.Skip("sync.Pool drops values at random under the race detector")
	}
	p := packetString(framing.Message{Payload: []byte("ping"), ID: 1, Type: framing.Request})
	for _, client := range []bool{false, true} {
		stream := bytes.Join([][]byte{
			frameBytes(ws.OpBinary, true, !client, []byte(p)),
			frameBytes(ws.OpPing, true, !client, []byte("ping")),
			frameBytes(ws.OpBinary, false, !client, []byte(p[:7])),
			frameBytes(ws.OpPong, true, !client, nil),
			frameBytes(ws.OpContinuation, false, !client, nil),
			frameBytes(ws.OpContinuation, true, !client, []byte(p[7:])),
		}, nil)
		for _, plain := range []bool{false, true} {
			c := openCodec(plain)
			if client {
				c = clientCodec(plain)
			}
			b, m := make([]byte, len(stream)), new(framing.Message)
			allocs := testing.AllocsPerRun(1000, func() {
				copy(b, stream)
				if got := decodeAll(t, c, b, m); got != 2 {
					t.Fatalf("%d messages", got)
				}
			})
			if allocs != 0 {
				t.Errorf("client %v, plain %v: %v allocations", client, plain, allocs)
			}
		}
	}
}

// TestAppendDoesNotAllocate covers both roles and both kinds of path.
func TestAppendDoesNotAllocate(t *testing.T) {
	if testkit.RaceEnabled {
		t.Skip("sync.Pool drops values at random under the race detector")
	}
	dst := make([]byte, 0, 4096)
	for _, c := range []*codec{openCodec(false), openCodec(true), clientCodec(false), clientCodec(true)} {
		m := &framing.Message{Payload: []byte("ping"), Text: c.plain}
		if n := testing.AllocsPerRun(1000, func() { _, _ = c.Append(dst, m) }); n != 0 {
			t.Errorf("client %v, plain %v: %v allocations", c.client, c.plain, n)
		}
	}
}

// BenchmarkDecode takes a batch of 256 masked frames, and counts single messages.
// The time to make the batch is included.
func BenchmarkDecode(b *testing.B) {
	const batch = 256
	for _, size := range []int{4, 64, 1024} {
		for _, plain := range []bool{false, true} {
			payload := make([]byte, size)
			if !plain {
				payload = []byte(packetString(framing.Message{Payload: payload}))
			}
			stream := bytes.Repeat(frameBytes(ws.OpBinary, true, true, payload), batch)
			work, c, m := make([]byte, len(stream)), openCodec(plain), new(framing.Message)
			b.Run(fmt.Sprintf("plain=%v/%d", plain, size), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; i < b.N; i += batch {
					copy(work, stream)
					if decodeAll(b, c, work, m) != batch {
						b.Fatal("messages are missing")
					}
				}
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	dst := make([]byte, 0, 4096)
	for _, size := range []int{4, 64, 1024} {
		for _, c := range []*codec{openCodec(false), openCodec(true), clientCodec(false)} {
			m := &framing.Message{Payload: make([]byte, size)}
			b.Run(fmt.Sprintf("client=%v/plain=%v/%d", c.client, c.plain, size), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					_, _ = c.Append(dst, m)
				}
			})
		}
	}
}
