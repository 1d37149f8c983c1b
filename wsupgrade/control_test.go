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

// TestPong echoes a ping's payload of every length, masked by a client only.
func TestPong(t *testing.T) {
	for length := range ws.MaxControlFramePayloadSize + 1 {
		payload := strings.Repeat("p", length)
		s := &fakeSession{}
		if o := feed(t, openCodec(true), s, fromClient(ws.OpPing, true, payload)); o.err != nil || len(o.messages) != 0 {
			t.Fatal(o)
		}
		if want := fromServer(ws.OpPong, true, payload); !bytes.Equal(s.control, want) {
			t.Fatalf("server: % x, want % x", s.control, want)
		}
		s = &fakeSession{}
		if o := feed(t, clientCodec(true), s, fromServer(ws.OpPing, true, payload)); o.err != nil || len(o.messages) != 0 {
			t.Fatal(o)
		}
		f, err := ws.ReadFrame(bytes.NewReader(s.control))
		if err != nil || !f.Header.Masked || f.Header.OpCode != ws.OpPong || !f.Header.Fin || len(s.control) != 6+length {
			t.Fatalf("client: % x: %v", s.control, err)
		}
		if got := ws.UnmaskFrameInPlace(f).Payload; string(got) != payload {
			t.Fatalf("client: %q", got)
		}
	}
}

// TestPongOnEndingSession goes on when an answer can't be sent: the engine
// knows why.
func TestPongOnEndingSession(t *testing.T) {
	for _, c := range []*codec{openCodec(true), clientCodec(true)} {
		frames := [][]byte{fromClient(ws.OpPing, true, "x"), fromClient(ws.OpText, true, "on")}
		if c.client {
			frames = [][]byte{fromServer(ws.OpPing, true, "x"), fromServer(ws.OpText, true, "on")}
		}
		if o := feed(t, c, &fakeSession{fail: engine.ErrClosed}, frames...); o.err != nil || len(o.messages) != 1 {
			t.Errorf("%+v", o)
		}
	}
}

// closeFrame is a client's close frame.
func closeFrame(code uint16, reason string) []byte {
	return fromClient(ws.OpClose, true, string(binary.BigEndian.AppendUint16(nil, code))+reason)
}

// TestCloseCodes takes the codes that may be sent, echoes them, and refuses all
// others: every one of 65,536.
func TestCloseCodes(t *testing.T) {
	valid := func(code int) bool {
		return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006) || code >= 3000 && code < 5000
	}
	for code := range 1 << 16 {
		c := openCodec(true)
		o := feed(t, c, &fakeSession{}, closeFrame(uint16(code), "why"))
		if !valid(code) {
			wantViolation(t, c, o.err, ws.StatusProtocolError)
			continue
		}
		var closed *CloseError
		if !errors.As(o.err, &closed) || int(closed.Code) != code || closed.Reason != "why" || !errors.Is(o.err, engine.ErrPeerClosed) {
			t.Fatalf("code %d: %v", code, o.err)
		}
		if got, reason := codeIn(t, c.Goodbye(nil, o.err)); int(got) != code || reason != "" {
			t.Fatalf("code %d is answered with %d %q", code, got, reason)
		}
	}
}

// TestCloseWithoutCode is answered without one.
func TestCloseWithoutCode(t *testing.T) {
	c := openCodec(true)
	o := feed(t, c, &fakeSession{}, fromClient(ws.OpClose, true, ""))
	var closed *CloseError
	if !errors.As(o.err, &closed) || closed.Code != 1005 || closed.Reason != "" || !errors.Is(o.err, engine.ErrPeerClosed) {
		t.Fatal(o.err)
	}
	if got, want := c.Goodbye(nil, o.err), fromServer(ws.OpClose, true, ""); !bytes.Equal(got, want) {
		t.Errorf("answered with % x", got)
	}
}

// TestCloseInsideMessage ends a session in the middle of a fragmented message.
func TestCloseInsideMessage(t *testing.T) {
	o := feed(t, openCodec(true), &fakeSession{}, fromClient(ws.OpText, false, "never ended"), closeFrame(1000, ""))
	if !errors.Is(o.err, engine.ErrPeerClosed) || len(o.messages) != 0 {
		t.Errorf("%+v", o)
	}
}
