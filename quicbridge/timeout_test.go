package quicbridge

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// TestWriteTimeout: a peer that takes nothing for so long loses its session, on
// one stream or for want of one, in both dialects; one that takes a little all
// the time keeps it.
func TestWriteTimeout(t *testing.T) { eachDispatch(t, testWriteTimeout) }

func testWriteTimeout(t *testing.T, d engine.Dispatch) {
	const limit = 400 * time.Millisecond
	small := &quic.Config{InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10}
	large := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, make([]byte, 100_000)) })
	for name, stall := range map[string]func(t *testing.T, addr string) *quic.Conn{
		"stream": func(t *testing.T, addr string) *quic.Conn {
			q := raw(t, addr, small, ALPN)
			send(t, open(t, q), request(t, 1, ""))
			return q
		},
		"msgtrans": func(t *testing.T, addr string) *quic.Conn {
			q := raw(t, addr, small)
			sendUni(t, q, request(t, 1, ""))
			return q
		},
		"no stream": func(t *testing.T, addr string) *quic.Conn {
			q := raw(t, addr, &quic.Config{MaxIncomingUniStreams: -1})
			sendUni(t, q, request(t, 1, ""))
			return q
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := recorder{onMsg: large.OnMessage}
			srv := serve(t, engine.Config{Dispatch: d, Handler: &r, WriteTimeout: limit}, Config{})
			q := stall(t, srv.addr)
			start := time.Now()
			if err := r.reason(t); !errors.Is(err, engine.ErrWriteTimeout) {
				t.Fatalf("the session ended with %v", err)
			}
			if took := time.Since(start); took < limit-50*time.Millisecond {
				t.Errorf("ended after %v", took)
			}
			expectCode(t, q, CodeSlowConsumer)
		})
	}
	t.Run("slow", func(t *testing.T) {
		srv := serve(t, engine.Config{Dispatch: d, Handler: large, WriteTimeout: limit}, Config{})
		s := open(t, raw(t, srv.addr, small, ALPN))
		send(t, s, request(t, 1, ""))
		start := time.Now()
		for range 20 { // in all twice the limit
			if _, err := io.ReadFull(s, make([]byte, 4000)); err != nil {
				t.Fatalf("after %v: %v", time.Since(start), err)
			}
			time.Sleep(limit / 10)
		}
		if _, err := io.ReadFull(s, make([]byte, framing.PacketHeaderSize+20_000)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestRates: the rate is the session's, however many streams it has, and nothing
// is dropped.
func TestRates(t *testing.T) { eachDispatch(t, testRates) }

func testRates(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo, MessageRate: 50}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	other := open(t, raw(t, srv.addr, nil, ALPN))
	start := time.Now()
	streams := make([]*quic.Stream, 20)
	for i := range streams {
		streams[i] = open(t, q)
	}
	for id := range uint32(5) { // 100 messages: 50 at once, the others in a second
		for _, s := range streams {
			send(t, s, request(t, id, "x"))
		}
		for _, s := range streams {
			expect(t, s, framing.Response, id, "x")
		}
	}
	took := time.Since(start)
	if took < 500*time.Millisecond {
		t.Errorf("100 messages at 50 a second, of which 50 at once, took %v", took)
	}
	if n := srv.Stats().Throttled; n == 0 {
		t.Error("not counted")
	}
	send(t, other, request(t, 1, "x")) // another session is not concerned
	expect(t, other, framing.Response, 1, "x")
}
