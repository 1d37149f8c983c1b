package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func startBroker(t *testing.T) (*engine.Engine, string) {
	t.Helper()
	e, protocols := newServer()
	t.Cleanup(func() { _ = e.Close() })
	l, err := e.Listen("127.0.0.1:0", protocols...)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e, l.Addr().String()
}

// The client's packets are written by hand, without the server's code.

func field(s string) string { return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s }

func control(first byte, parts ...string) []byte {
	body := strings.Join(parts, "")
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

// hello is a CONNECT packet of a client with a password; after is the payload between its
// client identifier and its user name.
func hello(id string, flags, keepAlive byte, after string) []byte {
	return control(0x10, field("MQTT"), string([]byte{4, flags | 0xc2, 0, keepAlive}), field(id), after, field("ada"), field("secret"))
}

var (
	welcome = []byte{0x20, 2, 0, 0}
	bye     = []byte{0xe0, 0}
	ask     = control(0x82, "\x00\x07", field("news"), "\x01", field("a/#"), "\x00")
	granted = []byte{0x90, 4, 0, 7, 0, 0x80}
)

// join connects a client, and subscribes it to news.
func join(t *testing.T, addr, id string) *net.TCPConn {
	t.Helper()
	c := testkit.Dial(t, addr)
	testkit.Write(t, c, append(hello(id, 0, 0, ""), ask...)) // section 3.1.4 allows both at once
	testkit.Expect(t, c, append(welcome[:4:4], granted...))
	return c
}

func TestPublishReachesSubscribersOfBothProtocols(t *testing.T) {
	_, addr := startBroker(t)
	ada := join(t, addr, "ada")
	packets := testkit.Dial(t, addr)
	ask := framing.Message{Type: framing.Request, ID: 9, BizType: 8, Payload: []byte(field("news") + "\x00")}
	testkit.Write(t, packets, serve.Packet(&ask))
	if m, err := serve.ReadPacket(packets); err != nil || m.ID != 9 || m.Type != framing.Response || !bytes.Equal(m.Payload, []byte{0}) {
		t.Fatalf("got %+v, %v", m, err)
	}

	fromMQTT := control(0x30, field("news"), strings.Repeat("x", 2000))
	for _, b := range fromMQTT { // also in single bytes
		testkit.Write(t, ada, []byte{b})
	}
	testkit.Expect(t, ada, fromMQTT)
	m, err := serve.ReadPacket(packets)
	if err != nil || string(m.Ext) != "news" || string(m.Payload) != strings.Repeat("x", 2000) || m.BizType != 3 {
		t.Fatalf("got %+v, %v", m, err)
	}
	testkit.Write(t, packets, serve.Packet(&framing.Message{BizType: 3, Ext: []byte("news"), Payload: []byte("from a packet")}))
	testkit.Expect(t, ada, control(0x30, field("news"), "from a packet"))

	testkit.Write(t, ada, control(0xa2, "\x00\x08", field("news")))
	testkit.Expect(t, ada, []byte{0xb0, 2, 0, 8})
	testkit.Write(t, ada, control(0x30, field("news"), "not for me"))
	testkit.Write(t, ada, []byte{0xc0, 0})
	testkit.Expect(t, ada, []byte{0xd0, 0}) // PINGRESP, and no PUBLISH before it
}

func TestEndsOfASession(t *testing.T) {
	e, addr := startBroker(t)
	ada := join(t, addr, "ada")
	will := field("news") + field("I am lost")

	quiet := testkit.Dial(t, addr) // DISCONNECT deletes the will
	testkit.Write(t, quiet, append(hello("quiet", 4, 0, will), bye...))
	testkit.Expect(t, quiet, welcome)
	ends(t, quiet)

	lost := testkit.Dial(t, addr)
	testkit.Write(t, lost, hello("lost", 4, 0, will))
	testkit.Expect(t, lost, welcome)
	_ = lost.Close()
	testkit.Expect(t, ada, control(0x30, field("news"), "I am lost"))

	again := join(t, addr, "ada") // the same client identifier
	ends(t, ada)
	testkit.Eventually(t, func() bool { return e.Stats().Closed["closed"] == 1 }, "the end of the first ada")
	third := join(t, addr, "ada")
	ends(t, again)
	testkit.Write(t, third, bye)
	ends(t, third)

	silent := testkit.Dial(t, addr)
	testkit.Write(t, silent, hello("silent", 0, 1, ""))
	testkit.Expect(t, silent, welcome)
	ends(t, silent)
	testkit.Eventually(t, func() bool { return e.Stats().Closed["idle_timeout"] == 1 && e.Stats().Active == 0 }, "the end of a silent client")
	if n := e.Stats().Closed["peer_closed"]; n < 2 {
		t.Errorf("%d clients have disconnected", n)
	}
}

// ends reads the end of the stream, before which nothing may come, and closes c.
func ends(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatalf("a byte came, or %v", err)
	}
	_ = c.Close()
}

func TestRefusedConnects(t *testing.T) {
	e, addr := startBroker(t)
	for name, c := range map[string]struct {
		sent []byte
		code byte // of CONNACK; 0 for none
	}{
		"version 5":             {control(0x10, field("MQTT"), "\x05\xc2\x00\x00", field("a"), field("ada"), field("secret")), 1},
		"no identifier":         {control(0x10, field("MQTT"), "\x04\xc0\x00\x00", field(""), field("ada"), field("secret")), 2},
		"wrong password":        {control(0x10, field("MQTT"), "\x04\xc2\x00\x00", field("a"), field("ada"), field("x")), 5},
		"other protocol":        {control(0x10, field("MQIsdp"), "\x03\x02\x00\x00", field("a")), 0},
		"reserved flag":         {hello("a", 1, 0, ""), 0},
		"QoS without a will":    {hello("a", 8, 0, ""), 0},
		"QoS 3":                 {hello("a", 4|0x18, 0, field("w")+field("")), 0},
		"password without user": {control(0x10, field("MQTT"), "\x04\x42\x00\x00", field("a"), field("secret")), 0},
		"will to a wildcard":    {hello("a", 4, 0, field("#")+field("")), 0},
		"too short":             {control(0x10, field("MQTT"), "\x04\xc2\x00\x00", field("a"), "\x00\x09ada"), 0},
		"too long":              {append(hello("a", 0, 0, field("more")), 0), 0},
		"not UTF-8":             {hello("\xff", 0, 0, ""), 0},
		"above 16 KiB":          {[]byte{0x10, 0x81, 0x80, 0x01}, 0},
		"endless length":        {[]byte{0x10, 0x80, 0x80, 0x80, 0x80}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			conn := testkit.Dial(t, addr)
			testkit.Write(t, conn, c.sent)
			got, _ := io.ReadAll(conn)
			if want := []byte{0x20, 2, 0, c.code}; c.code != 0 && !bytes.Equal(got, want) || c.code == 0 && len(got) > 0 {
				t.Errorf("got %x, want the code %d", got, c.code)
			}
		})
	}
	testkit.Eventually(t, func() bool { return e.Stats().Active == 0 }, "the end of all")
	s := e.Stats()
	if s.Refused["unauthorized"] != 1 || s.Refused["too_large"] != 1 || s.Refused["protocol_error"] != 12 || s.Panics != 0 {
		t.Errorf("refused: %v, panics: %d", s.Refused, s.Panics)
	}
}

func TestMalformedPackets(t *testing.T) {
	e, addr := startBroker(t)
	bad := map[string][]byte{
		"second CONNECT":             hello("b", 0, 0, ""),
		"QoS 1":                      control(0x32, field("news"), "\x00\x01x"),
		"DUP":                        control(0x38, field("news"), "x"),
		"topic with a wildcard":      control(0x30, field("news/+"), "x"),
		"empty topic":                control(0x30, field(""), "x"),
		"topic with a zero":          control(0x30, field("a\x00"), "x"),
		"topic longer than a packet": control(0x30, "\xff\xffnews"),
		"SUBSCRIBE flags":            control(0x80, "\x00\x07", field("news"), "\x00"),
		"SUBSCRIBE without ID":       control(0x82, "\x00\x00", field("news"), "\x00"),
		"SUBSCRIBE to nothing":       control(0x82, "\x00\x07"),
		"SUBSCRIBE with QoS 3":       control(0x82, "\x00\x07", field("news"), "\x03"),
		"UNSUBSCRIBE cut off":        control(0xa2, "\x00\x07", "\x00\x09news"),
		"PINGREQ with a body":        control(0xc0, "x"),
		"DISCONNECT with flags":      {0xe1, 0},
		"type 0":                     {0, 0},
		"type 15":                    {0xf0, 0},
		"endless length":             {0x30, 0x80, 0x80, 0x80, 0x80},
	}
	for name, b := range bad {
		t.Run(name, func(t *testing.T) {
			c := join(t, addr, "")
			testkit.Write(t, c, b)
			ends(t, c)
		})
	}
	t.Run("too large", func(t *testing.T) {
		c := join(t, addr, "")
		testkit.Write(t, c, []byte{0x30, 0xff, 0xff, 0xff, 0x7f})
		ends(t, c)
	})
	testkit.Eventually(t, func() bool { return e.Stats().Active == 0 }, "the end of all")
	s := e.Stats()
	if s.Closed["protocol_error"] != uint64(len(bad)) || s.Closed["too_large"] != 1 || s.Panics != 0 {
		t.Errorf("closed: %v, panics: %d", s.Closed, s.Panics)
	}
}

// TestMalformedMessagesInPackets: the broker itself checks what comes in packets.
func TestMalformedMessagesInPackets(t *testing.T) {
	e, addr := startBroker(t)
	bad := []*framing.Message{
		{BizType: 3, Ext: []byte("a/#"), Payload: []byte("x")},
		{BizType: 3, Ext: []byte("news"), Payload: []byte("x"), Compression: framing.CompressionZlib},
		{BizType: 8, Type: framing.Request, ID: 1, Payload: []byte("\x00\x09news")},
		{BizType: 1},
	}
	for _, m := range bad {
		c := testkit.Dial(t, addr)
		testkit.Write(t, c, serve.Packet(m))
		ends(t, c)
	}
	testkit.Eventually(t, func() bool { return e.Stats().Active == 0 }, "the end of all")
	if n := e.Stats().Closed["protocol_error"]; n != uint64(len(bad)) {
		t.Errorf("%v, want %d protocol errors", e.Stats().Closed, len(bad))
	}
}

// TestTopicsAreBounded: a session has at most 100 topics; after its end the broker has none.
func TestTopicsAreBounded(t *testing.T) {
	b := newBroker()
	e := engine.New(engine.Config{Handler: b})
	defer e.Close()
	l, err := e.Listen("127.0.0.1:0", newMQTT())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	c := join(t, l.Addr().String(), "ada")
	list, codes := "", make([]byte, 101)
	for i := range codes {
		list += field(strings.Repeat("t", i+1)) + "\x00"
		if i >= 99 { // news is one of the 100
			codes[i] = 0x80
		}
	}
	testkit.Write(t, c, control(0x82, "\x00\x09", list))
	testkit.Expect(t, c, control(0x90, "\x00\x09", string(codes)))
	_ = c.Close()
	testkit.Eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.topics) == 0 && len(b.sessions) == 0 && len(b.clients) == 0
	}, "the broker to forget the client")
}

func TestServerEndsWithItsContext(t *testing.T) {
	e, protocols := newServer()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.ListenAndServe(ctx, "127.0.0.1:0", protocols...); err != nil {
		t.Fatal(err)
	}
}
