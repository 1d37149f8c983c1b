package wsupgrade

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// TestAppend compares with gobwas's reader at every size where a frame's header
// changes, in both roles and on both kinds of path.
func TestAppend(t *testing.T) {
	for _, size := range []int{0, 1, 108, 109, 110, 125, 126, 127, 65535 - 16, 65536 - 16, 65535, 65536, 1 << 20} {
		for _, client := range []bool{false, true} {
			for _, plain := range []bool{false, true} {
				c := &codec{client: client, plain: plain}
				m := framing.Message{Payload: bytes.Repeat([]byte("x"), size), Text: plain && size%2 == 0}
				want, op := string(m.Payload), ws.OpBinary
				if !plain {
					m.ID, m.Type = 9, framing.Request
					want = packetString(m)
				}
				if m.Text {
					op = ws.OpText
				}
				t.Run(fmt.Sprintf("%d client %v plain %v", size, client, plain), func(t *testing.T) {
					checkAppend(t, c, &m, op, want)
				})
			}
		}
	}
}

func checkAppend(t *testing.T, c *codec, m *framing.Message, op ws.OpCode, want string) {
	t.Helper()
	before := bytes.Clone(m.Payload)
	out, err := c.Append([]byte("before"), m)
	if err != nil || !bytes.HasPrefix(out, []byte("before")) || !bytes.Equal(m.Payload, before) {
		t.Fatalf("%v, or bytes were changed that aren't Append's", err)
	}
	header, err := c.AppendHeader([]byte("before"), m)
	if c.client && !errors.Is(err, errors.ErrUnsupported) || !c.client && !bytes.Equal(append(header, m.Payload...), out) {
		t.Fatalf("the header %x, %v", header, err)
	}
	frame := out[len("before"):]
	f, err := ws.ReadFrame(bytes.NewReader(frame))
	if err != nil || !f.Header.Fin || f.Header.OpCode != op || f.Header.Masked != c.client || f.Header.Rsv != 0 {
		t.Fatalf("%+v, %v", f.Header, err)
	}
	// The length is in its shortest form, and nothing follows the frame.
	if ws.HeaderSize(f.Header)+len(f.Payload) != len(frame) {
		t.Fatalf("frame of %d bytes for %+v", len(frame), f.Header)
	}
	if c.client {
		f = ws.UnmaskFrameInPlace(f)
	}
	if string(f.Payload) != want {
		t.Fatalf("carries %.40q, want %.40q", f.Payload, want)
	}
}

// TestAppendGrowsOnce allocates no more than the frame.
func TestAppendGrowsOnce(t *testing.T) {
	m := &framing.Message{Payload: make([]byte, 5000), Ext: make([]byte, 100)}
	for _, c := range []*codec{{}, {client: true}} {
		newMask() // fills the supply
		if n := testing.AllocsPerRun(100, func() { _, _ = c.Append(nil, m) }); n > 1 && !testkit.RaceEnabled {
			t.Errorf("%v allocations", n)
		}
	}
}

// TestUnencodable gives dst back as it was.
func TestUnencodable(t *testing.T) {
	for name, tc := range map[string]struct {
		plain bool
		m     framing.Message
	}{
		"plain with ext":        {true, framing.Message{Ext: []byte("e")}},
		"plain and compressed":  {true, framing.Message{Compression: framing.CompressionZlib}},
		"plain and failed":      {true, framing.Message{Flags: framing.FlagFailed}},
		"plain and more":        {true, framing.Message{Flags: framing.FlagMore}},
		"plain and cancelled":   {true, framing.Message{Flags: framing.FlagCancel}},
		"plain and a part":      {true, framing.Message{Flags: framing.FlagFragmented}},
		"text not UTF-8":        {true, framing.Message{Text: true, Payload: []byte("\xff")}},
		"packet of no type":     {false, framing.Message{Type: 3}},
		"packet with large ext": {false, framing.Message{Ext: make([]byte, 1<<16)}},
	} {
		for _, client := range []bool{false, true} {
			c := &codec{client: client, plain: tc.plain}
			dst := append(make([]byte, 0, 256), "before"...)
			out, err := c.Append(dst, &tc.m)
			if !errors.Is(err, framing.ErrUnencodable) || string(out) != "before" {
				t.Errorf("%s, client %v: %v, %q", name, client, err, out)
			}
			if out, err = c.AppendHeader(dst, &tc.m); string(out) != "before" || err == nil || !client && !errors.Is(err, framing.ErrUnencodable) {
				t.Errorf("%s, client %v: header: %v, %q", name, client, err, out)
			}
		}
	}
}

// TestForms: the frames of servers are shared by the kind of path, those of clients, each
// of which has a mask of its own, are not.
func TestForms(t *testing.T) {
	plain, packets := openCodec(true).Form(), openCodec(false).Form()
	if plain == 0 || packets == 0 || plain == packets || plain == engine.FormPacket || packets == engine.FormPacket {
		t.Errorf("the forms are %d and %d", plain, packets)
	}
	if openCodec(true).Form() != plain || openCodec(false).Form() != packets {
		t.Error("sessions of a path have different forms")
	}
	if clientCodec(true).Form() != 0 || clientCodec(false).Form() != 0 {
		t.Error("a client has a form")
	}
}

// TestRoundTrip speaks from a client's codec to a server's and back, on both
// kinds of path.
func TestRoundTrip(t *testing.T) {
	plain := []framing.Message{{}, {Payload: []byte("hi")}, {Payload: []byte("grüß"), Text: true},
		{Payload: []byte(strings.Repeat("z", testLimit))}}
	packets := []framing.Message{{}, {Payload: []byte("ping"), ID: 2, Type: framing.Request, BizType: 4},
		{Payload: make([]byte, testLimit-5), Ext: []byte("12345"), ID: 1 << 31, Type: framing.Response, Flags: framing.FlagFailed}}
	for _, tc := range []struct {
		plain    bool
		messages []framing.Message
	}{{true, plain}, {false, packets}} {
		ends := []*codec{clientCodec(tc.plain), openCodec(tc.plain)}
		for i, from := range ends {
			var stream []byte
			for _, m := range tc.messages {
				var err error
				if stream, err = from.Append(stream, &m); err != nil {
					t.Fatal(err)
				}
			}
			o := feed(t, ends[1-i], &fakeSession{}, stream)
			if o.err != nil || len(o.messages) != len(tc.messages) || o.consumed != len(stream) {
				t.Fatalf("client %v: %d messages, %v", from.client, len(o.messages), o.err)
			}
			for i, m := range o.messages {
				if !same(m, &tc.messages[i]) {
					t.Errorf("message %d is %+v", i, m)
				}
			}
		}
	}
}
