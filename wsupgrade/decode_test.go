package wsupgrade

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// conversation is a request and frames of every kind, as a client sends them to
// a plain path, with the messages and the answers that they make.
func conversation() (stream []byte, messages []*framing.Message, pongs []byte) {
	long := strings.Repeat("long ", 60)
	stream = bytes.Join([][]byte{
		request("/echo"),
		fromClient(ws.OpText, true, "hello"),
		fromClient(ws.OpBinary, true, ""),
		fromClient(ws.OpPing, true, "are you there?"),
		fromClient(ws.OpBinary, true, long),
		fromClient(ws.OpText, false, "fr\xc3"), // cut inside a rune
		fromClient(ws.OpPing, true, ""),
		fromClient(ws.OpContinuation, false, ""),
		fromClient(ws.OpContinuation, false, "\xa4gm"),
		fromClient(ws.OpPong, true, "unasked"),
		fromClient(ws.OpContinuation, true, "ent"),
		fromClient(ws.OpBinary, false, "again"),
		fromClient(ws.OpContinuation, true, ""),
		fromClient(ws.OpText, true, "last"),
		fromClient(ws.OpClose, true, "\x0f\xa1done"),
	}, nil)
	messages = []*framing.Message{
		{Payload: []byte("hello"), Text: true},
		{},
		{Payload: []byte(long)},
		{Payload: []byte("frägment"), Text: true},
		{Payload: []byte("again")},
		{Payload: []byte("last"), Text: true},
	}
	pongs = append(fromServer(ws.OpPong, true, "are you there?"), fromServer(ws.OpPong, true, "")...)
	return stream, messages, pongs
}

// checkConversation fails unless o and s match conversation.
func checkConversation(t *testing.T, o outcome, s *fakeSession) {
	t.Helper()
	_, messages, pongs := conversation()
	var closed *CloseError
	if !errors.As(o.err, &closed) || closed.Code != 4001 || closed.Reason != "done" || !errors.Is(o.err, engine.ErrPeerClosed) {
		t.Fatalf("ended with %v", o.err)
	}
	if len(o.messages) != len(messages) || s.established != 1 {
		t.Fatalf("%d messages of %d, established %d times", len(o.messages), len(messages), s.established)
	}
	for i, m := range o.messages {
		if !same(m, messages[i]) {
			t.Fatalf("message %d is %+v, want %+v", i, m, messages[i])
		}
	}
	if _, answers, _ := bytes.Cut(s.control, []byte(headEnd)); !bytes.Equal(answers, pongs) {
		t.Fatalf("answered % x, want % x", answers, pongs)
	}
}

// TestEveryCut gives the same conversation in two pieces cut at every byte, in
// single bytes, and in one.
func TestEveryCut(t *testing.T) {
	stream, _, _ := conversation()
	for cut := range len(stream) + 1 {
		s := &fakeSession{}
		checkConversation(t, feed(t, serverCodec(), s, stream[:cut], stream[cut:]), s)
	}
	s := &fakeSession{}
	checkConversation(t, feed(t, serverCodec(), s, bytesOf(stream)...), s)
}

// bytesOf cuts a stream into single bytes.
func bytesOf(stream []byte) [][]byte {
	pieces := make([][]byte, len(stream))
	for i := range stream {
		pieces[i] = stream[i : i+1]
	}
	return pieces
}

// TestDecodeIsInPlace delivers a message in one frame without a copy, and without
// capacity after it.
func TestDecodeIsInPlace(t *testing.T) {
	for _, size := range []int{7, 300} {
		payload := strings.Repeat("p", size)
		for _, c := range []*codec{openCodec(true), clientCodec(true)} {
			frame := frameBytes(ws.OpBinary, true, !c.client, []byte(payload))
			behind := append(bytes.Clone(frame), "behind"...)
			var m framing.Message
			n, ok, err := c.decode(&fakeSession{}, behind, 0, &m)
			if n != len(frame) || !ok || err != nil {
				t.Fatalf("%d, %v, %v", n, ok, err)
			}
			if string(m.Payload) != payload || &m.Payload[0] != &behind[n-size] || cap(m.Payload) != size {
				t.Errorf("payload of %d bytes with capacity %d isn't the frame's", len(m.Payload), cap(m.Payload))
			}
		}
	}
}

// TestDecodeLeavesPartsAlone writes nothing to a frame that isn't all there: a
// mask that is removed twice is back.
func TestDecodeLeavesPartsAlone(t *testing.T) {
	frame := fromClient(ws.OpBinary, true, strings.Repeat("payload", 40))
	for cut := range frame {
		part := bytes.Clone(frame[:cut])
		n, ok, err := openCodec(true).decode(&fakeSession{}, part, 0, new(framing.Message))
		if n != 0 || ok || err != nil || !bytes.Equal(part, frame[:cut]) {
			t.Fatalf("%d bytes: took %d, %v, %v", cut, n, ok, err)
		}
	}
}

// TestZeroMask takes a frame whose masking key is zero, which is a key.
func TestZeroMask(t *testing.T) {
	o := feed(t, openCodec(true), &fakeSession{}, []byte{0x82, 0x82, 0, 0, 0, 0, 'h', 'i'})
	if o.err != nil || len(o.messages) != 1 || string(o.messages[0].Payload) != "hi" {
		t.Errorf("%+v", o)
	}
}

// TestPackets carries every field of a packet, in one frame and in fragments.
func TestPackets(t *testing.T) {
	want := framing.Message{Payload: []byte("ping"), Ext: []byte("ext"), ID: 7, Type: framing.Request,
		BizType: 3, Flags: framing.FlagRouteTag, Compression: framing.CompressionZstd}
	p := packetString(want)
	for cut := range len(p) {
		o := feed(t, openCodec(false), &fakeSession{},
			fromClient(ws.OpBinary, true, p), fromClient(ws.OpBinary, false, p[:cut]), fromClient(ws.OpContinuation, true, p[cut:]))
		if o.err != nil || len(o.messages) != 2 || !same(o.messages[0], &want) || !same(o.messages[1], &want) {
			t.Fatalf("cut at %d: %v, %+v", cut, o.err, o.messages)
		}
	}
}

// TestPacketLimit takes a packet of just the limit and none above.
func TestPacketLimit(t *testing.T) {
	full := packetString(framing.Message{Payload: make([]byte, testLimit-3), Ext: []byte("ext")})
	if o := feed(t, openCodec(false), &fakeSession{}, fromClient(ws.OpBinary, true, full)); o.err != nil || len(o.messages) != 1 {
		t.Errorf("a packet of the limit: %v", o.err)
	}
}

// TestPacketViolations lists the violations on a packet path, with their errors.
func TestPacketViolations(t *testing.T) {
	p := packetString(framing.Message{Payload: []byte("ping"), ID: 1})
	lying := []byte(p)
	lying[10] = 0xff // a payload of 4 GiB
	for name, tc := range map[string]struct {
		stream []byte
		code   ws.StatusCode
		is     error
	}{
		"text":            {[]byte{0x81, 0x85}, ws.StatusUnsupportedData, nil},
		"fragmented text": {[]byte{0x01, 0x85}, ws.StatusUnsupportedData, nil},
		"empty":           {fromClient(ws.OpBinary, true, ""), ws.StatusInvalidFramePayloadData, framing.ErrMalformed},
		"below a header":  {fromClient(ws.OpBinary, true, p[:15]), ws.StatusInvalidFramePayloadData, framing.ErrMalformed},
		"a byte short":    {fromClient(ws.OpBinary, true, p[:len(p)-1]), ws.StatusInvalidFramePayloadData, framing.ErrMalformed},
		"a byte more":     {fromClient(ws.OpBinary, true, p+"!"), ws.StatusInvalidFramePayloadData, framing.ErrMalformed},
		"two in one":      {fromClient(ws.OpBinary, true, p+p), ws.StatusInvalidFramePayloadData, framing.ErrMalformed},
		"no packet":       {fromClient(ws.OpBinary, true, "Hello, packet path!"), ws.StatusInvalidFramePayloadData, framing.ErrMalformed},
		"a lying length":  {fromClient(ws.OpBinary, true, string(lying)), ws.StatusMessageTooBig, framing.ErrTooLarge},
		"above the limit": {start16(0x82, testLimit+framing.PacketHeaderSize+1), ws.StatusMessageTooBig, engine.ErrTooLarge},
		"empty, fragmented": {append(fromClient(ws.OpBinary, false, ""), fromClient(ws.OpContinuation, true, "")...),
			ws.StatusInvalidFramePayloadData, framing.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			c := openCodec(false)
			o := feed(t, c, &fakeSession{}, tc.stream)
			if len(o.messages) != 0 || tc.is != nil && !errors.Is(o.err, tc.is) {
				t.Errorf("%d messages, %v", len(o.messages), o.err)
			}
			wantViolation(t, c, o.err, tc.code)
		})
	}
}

// TestShortFrames compares decode's own way with decodeFrame for every first two
// bytes of a frame, in every state.
func TestShortFrames(t *testing.T) {
	states := map[string]func() *codec{
		"plain server":   func() *codec { return openCodec(true) },
		"packet server":  func() *codec { return openCodec(false) },
		"plain client":   func() *codec { return clientCodec(true) },
		"packet client":  func() *codec { return clientCodec(false) },
		"small limit":    func() *codec { c := openCodec(true); c.limit = 7; return c },
		"inside message": func() *codec { c := openCodec(true); c.parts = &assembly{buf: []byte("a")}; return c },
	}
	frame := append([]byte{0, 0}, packetString(framing.Message{Payload: make([]byte, 110)})...)
	for name, state := range states {
		for start := range 1 << 16 {
			frame[0], frame[1] = byte(start>>8), byte(start)
			var got, want framing.Message
			a, b := bytes.Clone(frame), bytes.Clone(frame)
			n, ok, err := state().decode(&fakeSession{}, a, 0, &got)
			n2, ok2, err2 := state().decodeFrame(&fakeSession{}, b, 0, &want)
			if n != n2 || ok != ok2 || !sameError(err, err2) || !bytes.Equal(a, b) || !same(&got, &want) {
				t.Fatalf("%s, %04x: %d, %v, %v; want %d, %v, %v", name, start, n, ok, err, n2, ok2, err2)
			}
		}
	}
}

func sameError(a, b error) bool {
	return (a == nil) == (b == nil) && (a == nil || a.Error() == b.Error())
}
