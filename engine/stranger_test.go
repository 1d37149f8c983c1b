package engine_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// hello is a third-party stream protocol: the client says "hello", the server "welcome",
// then both continue in another protocol.
type hello struct{ then engine.StreamProtocol }

func (hello) Name() string { return "hello" }

func (hello) Match(first []byte) engine.Match {
	switch {
	case bytes.HasPrefix(first, []byte("hello")):
		return engine.MatchYes
	case bytes.HasPrefix([]byte("hello"), first):
		return engine.MatchMore
	}
	return engine.MatchNo
}

func (h hello) Accept(ctl *engine.Control) engine.Codec {
	return &helloCodec{Codec: h.then.Accept(ctl)}
}

func (h hello) Connect(ctx context.Context, conn net.Conn, addr string, limits engine.Limits) (engine.Codec, []byte, error) {
	if _, err := conn.Write([]byte("hello")); err != nil {
		return nil, nil, err
	}
	// A message may follow the welcome at once: the bytes after the welcome are the rest.
	buf := make([]byte, 4096)
	n, err := io.ReadAtLeast(conn, buf, len("welcome"))
	if err != nil {
		return nil, nil, err
	}
	codec, _, err := h.then.Connect(ctx, conn, addr, limits)
	return codec, buf[len("welcome"):n], err
}

type helloCodec struct {
	engine.Codec
	greeted bool
}

func (*helloCodec) NeedsHandshake() bool { return true }

func (c *helloCodec) Decode(ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
	if c.greeted {
		return c.Codec.Decode(ctl, b, seen, m)
	}
	if len(b) < len("hello") {
		return 0, false, nil
	}
	c.greeted = true
	if err := ctl.SendControl([]byte("welcome")); err != nil {
		return 0, false, err
	}
	ctl.Establish()
	return len("hello"), false, nil
}

func TestHazard02FirstMessageRightBehindTheHandshake(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		order := make(chan string, 10)
		h := engine.HandlerFuncs{
			Open: func(s *engine.Session) {
				order <- "open"
				_ = s.Send([]byte("first"))
			},
			Message: func(s *engine.Session, m *framing.Message) { order <- string(m.Payload) },
		}
		_, addr := serve(t, engine.Config{Handler: h, Dispatch: d}, hello{engine.Packets()}, engine.Packets())
		c := dial(t, addr)
		_, _ = c.Write(append([]byte("hello"), packet(&framing.Message{Payload: []byte("now")})...))
		expect(t, c, []byte("welcome"))
		expect(t, c, packet(&framing.Message{ID: 1, Payload: []byte("first")}))
		if a, b := <-order, <-order; a != "open" || b != "now" {
			t.Fatal(a, b)
		}
	})
}

func TestDialedSessionsAreSessions(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		for _, p := range []engine.StreamProtocol{engine.Packets(), hello{engine.Packets()}, engine.Framed(framing.Line{})} {
			_, addr := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFuncs{
				Open:    func(s *engine.Session) { _ = s.Send([]byte("first")) },
				Message: reply,
			}}, p)
			got := make(chan string, 10)
			client, _ := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFuncs{
				Open:    func(*engine.Session) { got <- "open" },
				Message: func(_ *engine.Session, m *framing.Message) { got <- string(m.Payload) },
				Close:   func(*engine.Session, error) { got <- "close" },
			}})
			s, err := client.Dial(context.Background(), addr, p)
			if err != nil {
				t.Fatal(err)
			}
			if s.RemoteAddr().String() != addr || !s.LocalAddr().IsValid() || !s.Dialed() || s.Transport() != p.Name() {
				t.Error(s.RemoteAddr(), s.LocalAddr(), s.Dialed(), s.Transport())
			}
			if err := s.Send([]byte("second")); err != nil {
				t.Fatal(err)
			}
			if a, b, c := <-got, <-got, <-got; a != "open" || b != "first" || c != "second" {
				t.Fatal(a, b, c)
			}
			if client.Session(s.ID()) != s {
				t.Error("not found by its ID")
			}
			s.Close()
			if a := <-got; a != "close" {
				t.Fatal(a)
			}
			waitFor(t, "the ID to be free", func() bool { return client.Session(s.ID()) == nil })
		}
	})
}

func TestDialFails(t *testing.T) {
	e, _ := serve(t, engine.Config{Handler: echo})
	if _, err := e.Dial(context.Background(), "127.0.0.1:1", engine.Packets()); err == nil {
		t.Error("dialed a closed port")
	}
	deaf, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = deaf.Close() }()
	ctx, cancel := context.WithCancel(context.Background())
	go cancel()
	if _, err := e.Dial(ctx, deaf.Addr().String(), hello{engine.Packets()}); err == nil {
		t.Error("handshake without a peer")
	}
}

func TestHazard11TwoPeersThatWriteMoreThanTheyReadDoNotDeadlock(t *testing.T) {
	const n, size = 2000, 20_000 // 40 MB, far above every mark and socket buffer
	_, addr := serve(t, engine.Config{Handler: echo, OutboxSoftMark: 64 << 10})
	done := make(chan struct{})
	var count atomic.Int64
	client, _ := serve(t, engine.Config{OutboxSoftMark: 64 << 10, OutboxLimit: 64 << 20,
		Handler: engine.HandlerFunc(func(_ *engine.Session, m *framing.Message) {
			if count.Add(1) == n {
				close(done)
			}
		})})
	s, err := client.Dial(context.Background(), addr, engine.Packets())
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		if err := s.Send(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%d of %d came back", count.Load(), n)
	}
}
