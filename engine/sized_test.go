package engine_test

import (
	"encoding/binary"
	"runtime"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// allocated returns how many bytes are allocated during f, on all goroutines.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestLargeMessageTakesItsSizeOnce: the memory of a frame whose length is known
// grows to that, in few steps, and not to a power of two above it.
func TestLargeMessageTakesItsSizeOnce(t *testing.T) {
	const size = 16 << 20
	for name, c := range map[string]struct {
		protocol engine.Protocol
		head     []byte
	}{
		"packets":       {engine.Packets(), sizedHead(size)},
		"length prefix": {engine.Framed(framing.LengthPrefix{}), binary.BigEndian.AppendUint32(nil, size)},
		"varint":        {engine.Framed(framing.LengthPrefix{Varint: true}), binary.AppendUvarint(nil, size)},
	} {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				got := make(chan int, 1)
				_, addr := serve(t, engine.Config{Dispatch: d, MaxMessageSize: size, Cores: 1,
					Handler: engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) { got <- len(m.Payload) })}, c.protocol)
				conn := dial(t, addr)
				frame := append(c.head[:len(c.head):len(c.head)], make([]byte, size)...)
				n := allocated(func() {
					if _, err := conn.Write(frame); err != nil {
						t.Error(err)
					}
					if n := <-got; n != size {
						t.Errorf("%d bytes", n)
					}
				})
				if n > size*3/2 { // 4/3, and other allocations
					t.Errorf("%d bytes were allocated for %d", n, size)
				}
			})
		})
	}
}

// TestAnnouncedMessageTakesNoMemory: a peer that announces much and sends little makes the
// engine allocate a few times the bytes that it sent.
func TestAnnouncedMessageTakesNoMemory(t *testing.T) {
	const size, sent = 16 << 20, 100 << 10
	e, addr := serve(t, engine.Config{Handler: echo, MaxMessageSize: size, Cores: 1})
	conn := dial(t, addr)
	n := allocated(func() {
		_, _ = conn.Write(append(sizedHead(size), make([]byte, sent)...))
		waitFor(t, "the bytes", func() bool { return e.Stats().BytesIn >= sent })
		_, _ = conn.Write([]byte{0}) // frees space, too
		waitFor(t, "the bytes", func() bool { return e.Stats().BytesIn > sent })
	})
	if n > 20*sent { // Stats allocates as well
		t.Errorf("%d bytes were allocated for %d", n, sent)
	}
}

// sizedHead is the header of a packet with size bytes of payload.
func sizedHead(size uint32) []byte {
	head := packet(&framing.Message{})
	binary.BigEndian.PutUint32(head[10:], size)
	return head
}
