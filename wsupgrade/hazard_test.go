package wsupgrade

import (
	"bytes"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestHazard01EverySplit sends fifty messages in one read, cut at every byte,
// and in single bytes, on both kinds of path and in both roles. None is lost
// and none is doubled.
func TestHazard01EverySplit(t *testing.T) {
	for _, plain := range []bool{false, true} {
		for _, from := range []*codec{clientCodec(plain), openCodec(plain)} {
			var stream []byte
			var want []framing.Message
			for i := range 50 {
				m := framing.Message{Payload: bytes.Repeat([]byte{byte(i)}, i*5%140)}
				if !plain {
					m.ID = uint32(i)
				}
				want = append(want, m)
				stream, _ = from.Append(stream, &m)
			}
			receiver := func() *codec {
				if from.client {
					return openCodec(plain)
				}
				return clientCodec(plain)
			}
			check := func(pieces ...[]byte) {
				o := feed(t, receiver(), &fakeSession{}, pieces...)
				if o.err != nil || len(o.messages) != len(want) {
					t.Fatalf("%d messages, %v", len(o.messages), o.err)
				}
				for i, m := range o.messages {
					if !same(m, &want[i]) {
						t.Fatalf("message %d is %+v", i, m)
					}
				}
			}
			check(bytes.Clone(stream))
			check(bytesOf(stream)...)
			for cut := range stream {
				check(stream[:cut], stream[cut:])
			}
		}
	}
}

// TestHazard02EarlyMessage delivers nothing before Establish, and messages that
// came with the request after it.
func TestHazard02EarlyMessage(t *testing.T) {
	s, c := &fakeSession{}, serverCodec()
	stream := append(request("/echo"), fromClient(ws.OpText, true, "first")...)
	for end := range stream {
		var m framing.Message
		n, ok, err := c.decode(s, stream[:end], max(end-1, 0), &m)
		if ok || err != nil {
			t.Fatalf("%d bytes: %v, %v", end, ok, err)
		}
		if n == 0 {
			continue
		}
		if s.established != 1 {
			t.Fatal("bytes were taken before Establish")
		}
		if n, ok, err = c.decode(s, stream[n:], 0, &m); n == 0 || !ok || err != nil || string(m.Payload) != "first" {
			t.Fatalf("the first message: %d, %v, %v, %q", n, ok, err, m.Payload)
		}
		return
	}
	t.Fatal("the request was never taken")
}

// TestHazard03EmptyPayload delivers messages without payload, whole and fragmented,
// and the messages after them.
func TestHazard03EmptyPayload(t *testing.T) {
	o := feed(t, openCodec(true), &fakeSession{}, bytes.Join([][]byte{
		fromClient(ws.OpText, true, ""),
		fromClient(ws.OpBinary, false, ""),
		fromClient(ws.OpContinuation, true, ""),
		fromClient(ws.OpPing, true, ""),
		fromClient(ws.OpText, true, "behind"),
	}, nil))
	if o.err != nil || len(o.messages) != 3 || len(o.messages[0].Payload)+len(o.messages[1].Payload) != 0 ||
		string(o.messages[2].Payload) != "behind" {
		t.Errorf("plain: %+v", o)
	}
	empty := packetString(framing.Message{ID: 1})
	o = feed(t, openCodec(false), &fakeSession{}, append(fromClient(ws.OpBinary, true, empty), fromClient(ws.OpBinary, true, empty)...))
	if o.err != nil || len(o.messages) != 2 || len(o.messages[1].Payload) != 0 {
		t.Errorf("packets: %+v", o)
	}
}

// TestHazard04SmallPieces takes a message of 1 MiB in fragments of 64 bytes, and
// a request in single bytes, with work that grows as their size does.
func TestHazard04SmallPieces(t *testing.T) {
	c := openCodec(true)
	c.limit = 1 << 20
	piece := strings.Repeat("x", 64)
	op, n := ws.OpBinary, 1<<20/len(piece)
	for i := range n {
		frame := fromClient(op, i == n-1, piece)
		if _, _, err := c.decode(idleSession{}, frame, 0, new(framing.Message)); err != nil {
			t.Fatal(err)
		}
		op = ws.OpContinuation
	}
	if len(c.parts.buf) != 1<<20 || cap(c.parts.buf) > 1<<20 {
		t.Errorf("%d bytes in %d", len(c.parts.buf), cap(c.parts.buf))
	}
	// Only the new bytes of a request are searched: a line feed within seen isn't
	// found again.
	head := []byte("GET /ws HTTP/1.1\nHost: a\r\n")
	if n, err := requestEnd(head, 20); n != 0 || err != nil {
		t.Errorf("bytes before seen were searched: %d, %v", n, err)
	}
}

// allocatedBy returns how many bytes f allocates.
func allocatedBy(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestHazard05LyingLength refuses a frame by its header, before its payload
// comes and without memory for it.
func TestHazard05LyingLength(t *testing.T) {
	for _, length := range []uint64{testLimit + 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		for _, first := range []byte{0x82, 0x02} {
			c := openCodec(true)
			var err error
			got := allocatedBy(func() {
				head := start64(first, length)
				if length <= 0xffff {
					head = start16(first, uint16(length))
				}
				_, _, err = c.decode(idleSession{}, head, 0, new(framing.Message))
			})
			if !errors.Is(err, engine.ErrProtocol) || c.parts != nil || got > 1<<16 {
				t.Errorf("%d declared: %v, %d bytes allocated", length, err, got)
			}
		}
	}
}

// TestHazard13PingFlood answers no more pings than the session has space for, and
// continues.
func TestHazard13PingFlood(t *testing.T) {
	for _, c := range []*codec{openCodec(true), clientCodec(true)} {
		s := &fakeSession{room: 4 << 10}
		ping := frameBytes(ws.OpPing, true, !c.client, bytes.Repeat([]byte("p"), 125))
		for range 10_000 {
			if o := feed(t, c, s, ping); o.err != nil || o.consumed != len(ping) {
				t.Fatalf("%+v", o)
			}
		}
		if len(s.control) > s.room || len(s.control) < s.room-131 {
			t.Errorf("%d bytes of answers", len(s.control))
		}
		if o := feed(t, c, s, frameBytes(ws.OpText, true, !c.client, []byte("still here"))); len(o.messages) != 1 {
			t.Errorf("after the flood: %+v", o)
		}
	}
}

// TestHazard13FragmentFlood ends a message that doesn't: one of empty frames,
// which cost the sender next to nothing, and one of full frames.
func TestHazard13FragmentFlood(t *testing.T) {
	for name, tc := range map[string]struct {
		payload string
		code    ws.StatusCode
	}{
		"empty": {"", ws.StatusPolicyViolation},
		"full":  {strings.Repeat("x", 125), ws.StatusMessageTooBig},
	} {
		t.Run(name, func(t *testing.T) {
			c := openCodec(true)
			frame := fromClient(ws.OpBinary, false, tc.payload)
			for range 10 * maxFragments(testLimit) {
				if o := feed(t, c, &fakeSession{}, frame); o.err != nil {
					wantViolation(t, c, o.err, tc.code)
					return
				}
				// An assembly from the pool may have served larger messages.
				if len(c.parts.buf) > testLimit || cap(c.parts.buf) > max(testLimit, maxPooledAssembly) {
					t.Fatalf("%d bytes kept", cap(c.parts.buf))
				}
				frame = fromClient(ws.OpContinuation, false, tc.payload)
			}
			t.Error("the flood had no end")
		})
	}
}

// TestHazard13SlowRequest refuses an upgrade that doesn't end at 16 KiB, however
// slowly it comes, and keeps nothing of it. (How long it may take is
// Config.HandshakeTimeout.)
func TestHazard13SlowRequest(t *testing.T) {
	c, s := serverCodec(), &fakeSession{}
	head := []byte("GET /ws HTTP/1.1\r\n")
	for len(head) < 1<<20 {
		head = append(head, "X-Slow: loris\r\n"...)
		n, ok, err := c.decode(s, head, max(len(head)-15, 0), new(framing.Message))
		if n != 0 || ok {
			t.Fatalf("took %d bytes", n)
		}
		if err == nil {
			continue
		}
		var refused *HandshakeError
		if !errors.As(err, &refused) || refused.Status != http.StatusRequestHeaderFieldsTooLarge || len(head) > maxHandshake+15 {
			t.Fatalf("%v after %d bytes", err, len(head))
		}
		return
	}
	t.Error("a request of 1 MiB is still asked to go on")
}

// TestHazard15GoodbyeBeforeClose sends the whole close frame after the bytes
// encoded before.
func TestHazard15GoodbyeBeforeClose(t *testing.T) {
	c := openCodec(true)
	out, _ := c.Append(nil, &framing.Message{Payload: []byte("queued")})
	out = c.Goodbye(out, engine.ErrClosed)
	o := feed(t, clientCodec(true), &fakeSession{}, out)
	var closed *CloseError
	if len(o.messages) != 1 || string(o.messages[0].Payload) != "queued" || !errors.As(o.err, &closed) || closed.Code != 1000 {
		t.Errorf("%+v", o)
	}
}
