package wsupgrade

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
)

// TestFrameExamples are the frames of RFC 6455 section 5.7. Those of a server
// are read by a client, masked ones by a server.
func TestFrameExamples(t *testing.T) {
	big256 := append([]byte{0x82, 0x7e, 0x01, 0x00}, make([]byte, 256)...)
	big64k := append([]byte{0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0}, make([]byte, 65536)...)
	for name, tc := range map[string]struct {
		codec  *codec
		pieces [][]byte
		want   string
		text   bool
	}{
		"unmasked text":   {clientCodec(true), [][]byte{{0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}}, "Hello", true},
		"masked text":     {openCodec(true), [][]byte{{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}}, "Hello", true},
		"fragmented text": {clientCodec(true), [][]byte{{0x01, 0x03, 0x48, 0x65, 0x6c}, {0x80, 0x02, 0x6c, 0x6f}}, "Hello", true},
		"256 bytes":       {clientCodec(true), [][]byte{big256}, strings.Repeat("\x00", 256), false},
		"64 KiB":          {clientCodec(true), [][]byte{big64k}, strings.Repeat("\x00", 65536), false},
	} {
		t.Run(name, func(t *testing.T) {
			tc.codec.limit = 1 << 20
			o := feed(t, tc.codec, &fakeSession{}, tc.pieces...)
			if o.err != nil || len(o.messages) != 1 {
				t.Fatalf("%+v", o)
			}
			if m := o.messages[0]; string(m.Payload) != tc.want || m.Text != tc.text {
				t.Errorf("%d bytes, text %v", len(m.Payload), m.Text)
			}
		})
	}
}

// TestPingPongExample is the same section's "Ping request and masked Ping
// response", with the roles that they have there.
func TestPingPongExample(t *testing.T) {
	s := &fakeSession{}
	if o := feed(t, clientCodec(true), s, []byte{0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f}); o.err != nil {
		t.Fatal(o.err)
	}
	// The same frame as 0x8a 0x85 0x37 0xfa 0x21 0x3d 0x7f 0x9f 0x4d 0x51 0x58,
	// but for the key.
	f, err := ws.ReadFrame(bytes.NewReader(s.control))
	if err != nil || !f.Header.Masked || f.Header.OpCode != ws.OpPong {
		t.Fatalf("% x: %+v, %v", s.control, f.Header, err)
	}
	if got := ws.UnmaskFrameInPlace(f).Payload; string(got) != "Hello" {
		t.Errorf("pong carries %q", got)
	}
}

// start16 and start64 are a frame's first bytes with an extended length.
func start16(b0 byte, length uint16) []byte {
	return binary.BigEndian.AppendUint16([]byte{b0, maskBit | length16}, length)
}

func start64(b0 byte, length uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{b0, maskBit | length64}, length)
}

// TestViolations ends a session with the close code that RFC 6455 section 7.4
// has for it. Each is told as soon as the bytes that show it are there: the
// streams stop at that point.
func TestViolations(t *testing.T) {
	first := fromClient(ws.OpText, false, "one ")
	after := func(frames ...[]byte) []byte { return bytes.Join(frames, nil) }
	for name, tc := range map[string]struct {
		stream []byte
		code   ws.StatusCode
	}{
		"RSV1":                     {[]byte{0xc1, 0x80}, ws.StatusProtocolError},
		"RSV2":                     {[]byte{0xa1, 0x80}, ws.StatusProtocolError},
		"RSV3":                     {[]byte{0x91, 0x80}, ws.StatusProtocolError},
		"RSV1 on a ping":           {[]byte{0xc9, 0x80}, ws.StatusProtocolError},
		"opcode 3":                 {[]byte{0x83, 0x80}, ws.StatusProtocolError},
		"opcode 7":                 {[]byte{0x87, 0x80}, ws.StatusProtocolError},
		"opcode 11":                {[]byte{0x8b, 0x80}, ws.StatusProtocolError},
		"opcode 15":                {[]byte{0x8f, 0x80}, ws.StatusProtocolError},
		"unmasked text":            {[]byte{0x81, 0x05}, ws.StatusProtocolError},
		"unmasked binary":          {[]byte{0x82, 0x05}, ws.StatusProtocolError},
		"unmasked ping":            {[]byte{0x89, 0x00}, ws.StatusProtocolError},
		"fragmented ping":          {[]byte{0x09, 0x80}, ws.StatusProtocolError},
		"fragmented close":         {[]byte{0x08, 0x80}, ws.StatusProtocolError},
		"ping of 126 bytes":        {start16(0x89, 126)[:2], ws.StatusProtocolError},
		"close of 2^32 bytes":      {start64(0x88, 1<<32)[:2], ws.StatusProtocolError},
		"continuation of nothing":  {[]byte{0x80, 0x80}, ws.StatusProtocolError},
		"continuation, not final":  {[]byte{0x00, 0x80}, ws.StatusProtocolError},
		"text inside a message":    {after(first, []byte{0x81, 0x80}), ws.StatusProtocolError},
		"binary inside a message":  {after(first, []byte{0x82, 0x80}), ws.StatusProtocolError},
		"continuation after final": {after(first, fromClient(ws.OpContinuation, true, "."), []byte{0x80, 0x80}), ws.StatusProtocolError},
		"16 bits for 125":          {start16(0x82, 125), ws.StatusProtocolError},
		"16 bits for 0":            {start16(0x82, 0), ws.StatusProtocolError},
		"64 bits for 65535":        {start64(0x82, 65535), ws.StatusProtocolError},
		"64 bits for 1":            {start64(0x82, 1), ws.StatusProtocolError},
		"length with its sign set": {start64(0x82, 1<<63), ws.StatusProtocolError},
		"length of all ones":       {start64(0x82, 1<<64-1), ws.StatusProtocolError},
		"too large, 16 bits":       {start16(0x82, testLimit+1), ws.StatusMessageTooBig},
		"too large, 64 bits":       {start64(0x82, 1<<63-1), ws.StatusMessageTooBig},
		"too large, 2^32":          {start64(0x82, 1<<32), ws.StatusMessageTooBig},
		"too large in all":         {after(first, start16(0x80, testLimit-3)), ws.StatusMessageTooBig},
		"too large by a little": {after(fromClient(ws.OpBinary, false, strings.Repeat("a", testLimit)), []byte{0x80, 0x81}),
			ws.StatusMessageTooBig},
		"text not UTF-8":         {fromClient(ws.OpText, true, "\xc0\xaf"), ws.StatusInvalidFramePayloadData},
		"text cut in a rune":     {fromClient(ws.OpText, true, "\xe2\x82"), ws.StatusInvalidFramePayloadData},
		"surrogate in text":      {fromClient(ws.OpText, true, "\xed\xa0\x80"), ws.StatusInvalidFramePayloadData},
		"fragments not UTF-8":    {after(first, fromClient(ws.OpContinuation, true, "\xff")), ws.StatusInvalidFramePayloadData},
		"close of one byte":      {fromClient(ws.OpClose, true, "\x03"), ws.StatusProtocolError},
		"close reason not UTF-8": {fromClient(ws.OpClose, true, "\x03\xe8\xff"), ws.StatusInvalidFramePayloadData},
	} {
		t.Run(name, func(t *testing.T) {
			c := openCodec(true)
			o := feed(t, c, &fakeSession{}, tc.stream)
			if len(o.messages) > 1 {
				t.Errorf("%d messages before %v", len(o.messages), o.err)
			}
			wantViolation(t, c, o.err, tc.code)
			if errors.Is(o.err, engine.ErrTooLarge) != (tc.code == ws.StatusMessageTooBig) {
				t.Errorf("%v is, or isn't, ErrTooLarge", o.err)
			}
		})
	}
}

// TestClientViolations are those that only a server can commit.
func TestClientViolations(t *testing.T) {
	for name, stream := range map[string][]byte{
		"masked text":   {0x81, 0x85},
		"masked binary": {0x82, 0x80},
		"masked ping":   {0x89, 0x80},
		"masked close":  {0x88, 0x82},
	} {
		c := clientCodec(true)
		o := feed(t, c, &fakeSession{}, stream)
		t.Run(name, func(t *testing.T) { wantViolation(t, c, o.err, ws.StatusProtocolError) })
	}
}

// TestLimitIsKept takes messages of just the limit, in one frame and in two, on
// both kinds of path.
func TestLimitIsKept(t *testing.T) {
	full := strings.Repeat("x", testLimit)
	for name, pieces := range map[string][][]byte{
		"one frame":  {fromClient(ws.OpBinary, true, full)},
		"two frames": {fromClient(ws.OpBinary, false, full[:99]), fromClient(ws.OpContinuation, true, full[99:])},
	} {
		if o := feed(t, openCodec(true), &fakeSession{}, pieces...); o.err != nil || len(o.messages) != 1 ||
			len(o.messages[0].Payload) != testLimit {
			t.Errorf("%s: %d messages, %v", name, len(o.messages), o.err)
		}
	}
}
