package wsupgrade

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit/serve"
)

const testLimit = 4096 // Limits.MaxMessageSize of the codecs under test, in bytes

// fakeSession stands for the engine: it keeps the control frames and counts
// Establish. room, if it isn't 0, is how many bytes of them it takes.
type fakeSession struct {
	control     []byte
	established int
	room        int
	fail        error
}

func (s *fakeSession) SendControl(frame []byte) error {
	if s.fail != nil {
		return s.fail
	}
	if s.room != 0 && len(s.control)+len(frame) > s.room {
		return engine.ErrWouldBlock
	}
	s.control = append(s.control, frame...)
	return nil
}

func (s *fakeSession) Establish()               { s.established++ }
func (s *fakeSession) SetValue(any, any)        {}
func (s *fakeSession) Authorize() bool          { return true }
func (s *fakeSession) Session() *engine.Session { return nil }

func testLimits() *engine.Limits { return &engine.Limits{MaxMessageSize: testLimit} }

// serverCodec returns a codec that waits for a request; openCodec one after it.
func serverCodec() *codec {
	return newServerCodec(New(Config{Packets: []string{"/ws"}, Plain: []string{"/echo"}}), testLimits())
}

func openCodec(plain bool) *codec {
	c := serverCodec()
	c.enter(route{plain: plain})
	return c
}

func clientCodec(plain bool) *codec {
	return newClientCodec(Path("/ws"), route{plain: plain}, testLimits())
}

// request is a valid upgrade request for path.
func request(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n"+
		"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Origin: http://server.example.com\r\nSec-WebSocket-Version: 13\r\n\r\n", path)
}

// frameBytes encodes a frame with gobwas's own writer, masked with a fixed key
// or not at all.
func frameBytes(op ws.OpCode, fin, masked bool, payload []byte) []byte {
	f := ws.NewFrame(op, fin, payload)
	if masked {
		f = ws.MaskFrameWith(f, [4]byte{0x37, 0xfa, 0x21, 0x3d})
	}
	return ws.MustCompileFrame(f)
}

// fromClient is a masked frame, fromServer one without.
func fromClient(op ws.OpCode, fin bool, payload string) []byte {
	return frameBytes(op, fin, true, []byte(payload))
}

func fromServer(op ws.OpCode, fin bool, payload string) []byte {
	return frameBytes(op, fin, false, []byte(payload))
}

// packetString is m as a packet.
func packetString(m framing.Message) string { return string(serve.Packet(&m)) }

// outcome is everything that a codec made of a stream.
type outcome struct {
	messages []*framing.Message
	consumed int
	calls    int
	err      error
}

// feed gives c the stream as an engine does: the unconsumed bytes, piece by piece,
// at a changing place in memory, and with seen.
func feed(t testing.TB, c *codec, s control, pieces ...[]byte) (o outcome) {
	t.Helper()
	var tail []byte
	for _, piece := range pieces {
		seen := len(tail)
		tail = append(bytes.Clone(tail), piece...)
		for o.err == nil && len(tail) > 0 {
			var m framing.Message
			n, ok, err := c.decode(s, tail, seen, &m)
			o.calls++
			if n < 0 || n > len(tail) {
				t.Fatalf("Decode took %d of %d bytes", n, len(tail))
			}
			o.err = err
			o.consumed += n
			if ok {
				o.messages = append(o.messages, m.Clone())
			}
			tail = tail[n:]
			seen = 0
			if n == 0 {
				break
			}
		}
		if o.err != nil {
			return o
		}
	}
	return o
}

// codeIn returns the code and reason of the close frame at the end of a
// session, as gobwas reads it.
func codeIn(t testing.TB, frame []byte) (ws.StatusCode, string) {
	t.Helper()
	f, err := ws.ReadFrame(bytes.NewReader(frame))
	if err != nil {
		t.Fatalf("goodbye % x is no frame: %v", frame, err)
	}
	if f.Header.OpCode != ws.OpClose || !f.Header.Fin || ws.HeaderSize(f.Header)+len(f.Payload) != len(frame) {
		t.Fatalf("goodbye % x isn't one close frame", frame)
	}
	if f.Header.Masked {
		f = ws.UnmaskFrameInPlace(f)
	}
	return ws.ParseCloseFrameData(f.Payload)
}

// same reports whether two messages are equal in every field.
func same(a, b *framing.Message) bool {
	return bytes.Equal(a.Payload, b.Payload) && bytes.Equal(a.Ext, b.Ext) && a.Stream == b.Stream &&
		a.ID == b.ID && a.Flags == b.Flags && a.Type == b.Type && a.BizType == b.BizType &&
		a.Compression == b.Compression && a.Text == b.Text && a.Datagram == b.Datagram
}

// wantViolation fails unless err ends a session for a breach of the protocol
// with that code.
func wantViolation(t testing.TB, c *codec, err error, code ws.StatusCode) {
	t.Helper()
	if !errors.Is(err, engine.ErrProtocol) {
		t.Fatalf("error %v isn't ErrProtocol", err)
	}
	if errors.Is(err, engine.ErrPeerClosed) || errors.Is(err, engine.ErrClosed) {
		t.Fatalf("error %v says that somebody closed", err)
	}
	if got, _ := codeIn(t, c.Goodbye(nil, err)); got != code {
		t.Fatalf("close code %d for %v, want %d", got, err, code)
	}
}
