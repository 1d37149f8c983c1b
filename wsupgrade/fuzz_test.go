package wsupgrade

import (
	"bytes"
	"errors"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// FuzzDecode gives a codec any bytes in any two cuts. The codec never panics, never
// consumes more than there is, keeps no more than the limit, fails only with a
// typed error, and decodes the two pieces to the same result as the whole.
func FuzzDecode(f *testing.F) {
	stream, _, _ := conversation()
	head := len(request("/echo"))
	f.Add(stream, uint16(head), uint8(0))
	f.Add(stream[head:], uint16(30), uint8(1))
	f.Add(fromClient(ws.OpBinary, true, packetString(framing.Message{ID: 1, Payload: []byte("ping")})), uint16(3), uint8(2))
	f.Add(fromServer(ws.OpText, true, "hello"), uint16(1), uint8(3))
	f.Add(fromServer(ws.OpBinary, true, packetString(framing.Message{Type: framing.Response, Ext: []byte("e")})), uint16(9), uint8(4))
	f.Add(start64(0x82, 1<<63), uint16(5), uint8(1))
	f.Add(closeFrame(1006, "\xff"), uint16(2), uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, at uint16, kind uint8) {
		cut := min(int(at), len(stream))
		make := func() *codec {
			switch kind % 5 {
			case 1, 2:
				return openCodec(kind%5 == 1)
			case 3, 4:
				return clientCodec(kind%5 == 3)
			}
			return serverCodec()
		}
		a, b := &fakeSession{}, &fakeSession{}
		c := make()
		whole, parted := feed(t, c, a, bytes.Clone(stream)), feed(t, make(), b, stream[:cut], stream[cut:])
		if c.parts != nil && cap(c.parts.buf) > maxPooledAssembly {
			t.Fatalf("keeps %d bytes", cap(c.parts.buf))
		}
		if len(whole.messages) != len(parted.messages) || (whole.err == nil) != (parted.err == nil) {
			t.Fatalf("whole: %d messages, %v; cut at %d: %d, %v",
				len(whole.messages), whole.err, cut, len(parted.messages), parted.err)
		}
		for i, m := range whole.messages {
			if !same(m, parted.messages[i]) || len(m.Payload)+len(m.Ext) > testLimit {
				t.Fatalf("message %d: %+v and %+v", i, m, parted.messages[i])
			}
		}
		if !c.client && !bytes.Equal(a.control, b.control) {
			t.Fatalf("answers % x and % x", a.control, b.control)
		}
		checkEnd(t, c, whole.err)
	})
}

// checkEnd fails unless err is an end that the engine can tell, with a goodbye
// that a peer can read.
func checkEnd(t *testing.T, c *codec, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if errors.Is(err, engine.ErrProtocol) == errors.Is(err, engine.ErrPeerClosed) {
		t.Fatalf("what kind of end is %v?", err)
	}
	goodbye := c.Goodbye(nil, err)
	if c.NeedsHandshake() {
		readResponse(t, goodbye)
		return
	}
	if code, _ := codeIn(t, goodbye); !code.Empty() && !sendable(uint16(code)) {
		t.Fatalf("goodbye with code %d", code)
	}
}
