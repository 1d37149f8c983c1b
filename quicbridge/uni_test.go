package quicbridge

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// sendUni sends b as msgtrans does: on a stream of its own, which it then finishes.
func sendUni(t testing.TB, q *quic.Conn, b []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	s, err := q.OpenUniStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	send(t, s, b)
	_ = s.Close()
}

// nextUni reads one packet as msgtrans does.
func nextUni(t testing.TB, q *quic.Conn) *framing.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testPatience)
	defer cancel()
	s, err := q.AcceptUniStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetReadDeadline(time.Now().Add(testPatience))
	m, err := next(s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("behind the packet came %v", err)
	}
	return m
}

// TestCompatRoundTrip is a msgtrans client: many more packets than streams are
// allowed at a time, in both directions, of every size.
func TestCompatRoundTrip(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{MaxIncomingUni: 4})
	q := raw(t, srv.addr, &quic.Config{MaxIncomingUniStreams: 3})
	for i := range 200 {
		payload := strings.Repeat(name(i), 1+i*i/40)
		sendUni(t, q, request(t, uint32(i), payload))
		if m := nextUni(t, q); m.Type != framing.Response || m.ID != uint32(i) || string(m.Payload) != payload {
			t.Fatalf("reply %d is type %d id %d, %d bytes", i, m.Type, m.ID, len(m.Payload))
		}
	}
	biggest := make([]byte, compatMaxPacket-framing.PacketHeaderSize)
	sendUni(t, q, packet(t, framing.Message{Type: framing.Request, ID: 999, Payload: biggest}))
	if m := nextUni(t, q); len(m.Payload) != len(biggest) {
		t.Fatalf("the largest packet came back with %d bytes", len(m.Payload))
	}
}

// TestCompatPipelined: replies that wait for the peer to allow more streams are
// queued, and come in order.
func TestCompatPipelined(t *testing.T) {
	const n = 300
	srv := serve(t, engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for i := range n {
			_ = s.SendMessage(&framing.Message{ID: uint32(i), Payload: []byte(name(i))})
		}
	})}, Config{})
	q := raw(t, srv.addr, &quic.Config{MaxIncomingUniStreams: 2})
	sendUni(t, q, request(t, 1, "all"))
	time.Sleep(50 * time.Millisecond)
	for i := range n {
		if m := nextUni(t, q); m.ID != uint32(i) || string(m.Payload) != name(i) {
			t.Fatalf("message %d is %+v", i, m)
		}
	}
}

// TestCompatTooLarge: a packet that a msgtrans peer couldn't read isn't sent.
func TestCompatTooLarge(t *testing.T) {
	errs := make(chan error, 1)
	srv := serve(t, engine.Config{MaxMessageSize: 2 << 20, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		errs <- s.Reply(m, make([]byte, compatMaxPacket-framing.PacketHeaderSize+1))
	})}, Config{})
	q := raw(t, srv.addr, nil)
	sendUni(t, q, request(t, 1, ""))
	if err := <-errs; !errors.Is(err, engine.ErrTooLarge) {
		t.Fatalf("Reply returned %v", err)
	}
}

// TestHazard20CompatStuckStream: streams that are never finished do not delay
// others, and are cancelled after the idle timeout, so that credit doesn't run out.
func TestHazard20CompatStuckStream(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{MaxIncomingUni: 4, IdleTimeout: 300 * time.Millisecond})
	q := raw(t, srv.addr, &quic.Config{KeepAlivePeriod: 50 * time.Millisecond})
	for range 3 {
		s, err := q.OpenUniStream()
		if err != nil {
			t.Fatal(err)
		}
		send(t, s, request(t, 1, "never whole")[:20])
	}
	for i := range 20 { // one stream at a time is left
		sendUni(t, q, request(t, uint32(i), "x"))
		if m := nextUni(t, q); m.ID != uint32(i) {
			t.Fatalf("reply %d is %+v", i, m)
		}
	}
	for range 3 {
		s, err := q.OpenUniStream()
		if err == nil {
			send(t, s, request(t, 1, "never whole")[:20])
		}
	}
	sendUni(t, q, request(t, 77, "x")) // waits until one was given up
	if m := nextUni(t, q); m.ID != 77 {
		t.Fatalf("got %+v", m)
	}
}

// TestCompatBadStreams: a stream must be exactly one packet; else its connection
// ends, with a code and a typed error, and no other.
func TestCompatBadStreams(t *testing.T) {
	whole := request(t, 1, "four")
	huge := append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0}, make([]byte, tailSize)...)
	for _, c := range []struct {
		name  string
		bytes []byte
		code  Code
		err   error
	}{
		{"nothing", nil, CodeProtocol, io.ErrUnexpectedEOF},
		{"truncated", whole[:18], CodeProtocol, io.ErrUnexpectedEOF},
		{"two packets", append(whole[:len(whole):len(whole)], whole...), CodeProtocol, framing.ErrMalformed},
		{"no packet", []byte("GET / HTTP/1.1\r\n\r\n"), CodeProtocol, framing.ErrMalformed},
		{"too large", huge, CodeTooLarge, engine.ErrTooLarge},
		{"long tail", append(whole[:len(whole):len(whole)], make([]byte, 2*tailSize)...), CodeProtocol, framing.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r recorder
			r.onMsg = echo
			srv := serve(t, engine.Config{Handler: &r}, Config{})
			good, bad := raw(t, srv.addr, nil), raw(t, srv.addr, nil)
			s, err := bad.OpenUniStream()
			if err != nil {
				t.Fatal(err)
			}
			_, _ = s.Write(c.bytes) // its end may be refused already
			_ = s.Close()
			expectCode(t, bad, c.code)
			if err := r.reason(t); !errors.Is(err, engine.ErrProtocol) || !errors.Is(err, c.err) {
				t.Fatalf("OnClose got %v", err)
			}
			sendUni(t, good, request(t, 1, "x"))
			nextUni(t, good)
		})
	}
}

// TestUnknownStreamTypes: each kind of connection has one kind of stream.
func TestUnknownStreamTypes(t *testing.T) {
	for _, c := range []struct {
		protos []string
		send   func(q *quic.Conn)
		err    error
	}{
		{[]string{ALPN}, func(q *quic.Conn) { sendUni(t, q, request(t, 1, "x")) }, errUniStream},
		{nil, func(q *quic.Conn) { send(t, open(t, q), request(t, 1, "x")) }, errStream},
	} {
		var r recorder
		srv := serve(t, engine.Config{Handler: &r}, Config{})
		q := raw(t, srv.addr, nil, c.protos...)
		c.send(q)
		expectCode(t, q, CodeProtocol)
		if err := r.reason(t); !errors.Is(err, c.err) || !errors.Is(err, engine.ErrProtocol) {
			t.Fatalf("OnClose got %v, want %v", err, c.err)
		}
		if r.count() > 0 {
			t.Fatal("a message was taken from such a stream")
		}
	}
}

// TestCompatReplyThenClose: a msgtrans peer gets the packets sent before Close,
// although it can't confirm them.
func TestCompatReplyThenClose(t *testing.T) {
	const n = 50
	srv := serve(t, engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for range n {
			_ = s.Reply(m, make([]byte, 5000))
		}
		s.Close()
	})}, Config{})
	q := raw(t, srv.addr, &quic.Config{MaxIncomingUniStreams: 5})
	sendUni(t, q, request(t, 1, "x"))
	for range n {
		if m := nextUni(t, q); len(m.Payload) != 5000 {
			t.Fatalf("got %d bytes", len(m.Payload))
		}
	}
	expectCode(t, q, CodeNone)
}

// TestHazard21CompatStalledPeer: a msgtrans peer that reads nothing is bounded
// like any other.
func TestHazard21CompatStalledPeer(t *testing.T) {
	errs := make(chan error, 1)
	srv := serve(t, engine.Config{OutboxLimit: 1 << 20, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for {
			if err := s.Reply(m, make([]byte, 10_000)); err != nil {
				errs <- err
				return
			}
		}
	})}, Config{})
	q := raw(t, srv.addr, &quic.Config{MaxIncomingUniStreams: 2})
	sendUni(t, q, request(t, 1, "x"))
	if err := <-errs; err != engine.ErrSlowConsumer {
		t.Fatalf("sending ended with %v", err)
	}
	expectCode(t, q, CodeSlowConsumer)
}
