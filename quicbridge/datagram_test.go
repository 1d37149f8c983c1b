package quicbridge

import (
	"context"
	"errors"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// TestDatagrams go both ways, are marked, and are answered by datagrams.
func TestDatagrams(t *testing.T) {
	var r recorder
	r.onMsg = echo
	srv := serve(t, engine.Config{Handler: &r}, Config{})
	c := newClient(t, engine.Config{}, Config{})
	s := c.dial(t, srv.addr)
	for i := range 20 { // one after the other: none is lost on loopback then
		m := &framing.Message{Type: framing.Request, ID: uint32(i), Datagram: true, Payload: []byte(name(i))}
		if err := s.SendMessage(m); err != nil {
			t.Fatal(err)
		}
		c.await(t, "the answer", func() bool { return len(c.got) == i+1 })
		got := c.got[i]
		if !got.Datagram || got.Stream != 0 || got.ID != uint32(i) || string(got.Payload) != name(i) {
			t.Fatalf("answer %d is %+v", i, got)
		}
	}
	if !r.all()[0].Datagram {
		t.Fatal("the server's message isn't marked")
	}
}

// TestDatagramTooLarge: the path's limit is found and reported at once; a datagram
// that fits is sent.
func TestDatagramTooLarge(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	c := newClient(t, engine.Config{}, Config{})
	s := c.dial(t, srv.addr)
	if err := s.SendMessage(&framing.Message{Datagram: true, Payload: make([]byte, 1500)}); err != engine.ErrTooLarge {
		t.Fatalf("1500 bytes: %v", err)
	}
	if err := s.SendMessage(&framing.Message{Datagram: true, Payload: make([]byte, 1000)}); err != nil {
		t.Fatalf("1000 bytes: %v", err)
	}
	c.await(t, "the answer", func() bool { return len(c.got) == 1 && len(c.got[0].Payload) == 1000 })
	if err := s.SendMessage(&framing.Message{Datagram: true, Type: 9}); !errors.Is(err, framing.ErrUnencodable) {
		t.Fatalf("an impossible type: %v", err)
	}
}

// TestDatagramBound: datagrams that can't leave are bounded, and their sender is
// told; nothing waits.
func TestDatagramBound(t *testing.T) {
	blocked := make(chan error, 1)
	srv := serve(t, engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		for range 1000 { // without a flush in between: they stay where they are
			if err := s.SendMessage(&framing.Message{Datagram: true, Payload: make([]byte, 1000)}); err != nil {
				blocked <- err
				return
			}
		}
		blocked <- nil
	})}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	send(t, open(t, q), request(t, 1, "x"))
	if err := <-blocked; err != engine.ErrWouldBlock {
		t.Fatalf("a thousand datagrams: %v", err)
	}
	for range 3 { // the first ones arrive nevertheless
		ctx, cancel := context.WithTimeout(t.Context(), testPatience)
		if b, err := q.ReceiveDatagram(ctx); err != nil || len(b) != framing.PacketHeaderSize+1000 {
			t.Fatalf("got %d bytes, %v", len(b), err)
		}
		cancel()
	}
}

// TestNoDatagrams: a peer that takes none isn't sent any, and a msgtrans one
// never.
func TestNoDatagrams(t *testing.T) {
	errs := make(chan error, 1)
	srv := serve(t, engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		errs <- s.SendMessage(&framing.Message{Datagram: true})
	})}, Config{})
	send(t, open(t, raw(t, srv.addr, &quic.Config{}, ALPN)), request(t, 1, "x"))
	if err := <-errs; !errors.Is(err, framing.ErrUnencodable) {
		t.Fatalf("without support: %v", err)
	}
	sendUni(t, raw(t, srv.addr, nil), request(t, 1, "x"))
	if err := <-errs; !errors.Is(err, framing.ErrUnencodable) {
		t.Fatalf("msgtrans: %v", err)
	}
}

// TestBadDatagram: a datagram is exactly one packet.
func TestBadDatagram(t *testing.T) {
	whole := request(t, 1, "four")
	for _, b := range [][]byte{{9, 9}, whole[:17], append(whole[:len(whole):len(whole)], 1)} {
		var r recorder
		srv := serve(t, engine.Config{Handler: &r}, Config{})
		q := raw(t, srv.addr, nil, ALPN)
		if err := q.SendDatagram(b); err != nil {
			t.Fatal(err)
		}
		expectCode(t, q, CodeProtocol)
		if err := r.reason(t); !errors.Is(err, engine.ErrProtocol) || !errors.Is(err, framing.ErrMalformed) {
			t.Fatalf("OnClose got %v", err)
		}
	}
}

// TestDatagramDrops: with the handler stuck and its ring full, datagrams are
// dropped and counted, and the connection lives.
func TestDatagramDrops(t *testing.T) {
	release := make(chan struct{})
	srv := serve(t, engine.Config{Cores: 1, RingSize: 64 << 10, Handler: engine.HandlerFunc(
		func(s *engine.Session, m *framing.Message) { <-release; _ = s.Reply(m, nil) })}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	b := packet(t, framing.Message{Payload: make([]byte, 1000)})
	eventually(t, "a drop", func() bool {
		for range 20 {
			_ = q.SendDatagram(b)
		}
		return srv.Stats().DroppedDatagrams > 0
	})
	close(release)
	s := open(t, q)
	send(t, s, request(t, 1, ""))
	expect(t, s, framing.Response, 1, "")
}
