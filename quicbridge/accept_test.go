package quicbridge

import (
	"context"
	"io"
	"net"
	"runtime/metrics"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// goroutinesMade returns how many goroutines this process has started.
func goroutinesMade() uint64 {
	sample := []metrics.Sample{{Name: "/sched/goroutines-created:goroutines"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// TestStreamPerRequestStartsNoGoroutines: streams that carry one Request, and arrive
// finished, are read and answered without goroutines of their own.
func TestStreamPerRequestStartsNoGoroutines(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		srv := serve(t, engine.Config{Dispatch: d, Handler: echo}, Config{})
		countGoroutines(t, raw(t, srv.addr, nil, ALPN), askOnce)
		countGoroutines(t, raw(t, srv.addr, nil), askMsgtrans)
	})
}

func countGoroutines(t *testing.T, q *quic.Conn, ask func(*quic.Conn, uint32, []byte) error) {
	t.Helper()
	buf := make([]byte, 1<<10)
	const n = 400
	before := goroutinesMade()
	for id := range uint32(n) {
		if err := ask(q, id, buf); err != nil {
			t.Fatal(err)
		}
	}
	// A stream that is accepted before its data has arrived costs one.
	if made := goroutinesMade() - before; made > n/2 {
		t.Errorf("%d goroutines were started for %d requests", made, n)
	}
}

// sieve is a socket that drops large packets on demand.
type sieve struct {
	net.PacketConn
	closed atomic.Bool
}

func (s *sieve) WriteTo(b []byte, addr net.Addr) (int, error) {
	if s.closed.Load() && len(b) > 1000 {
		return len(b), nil
	}
	return s.PacketConn.WriteTo(b, addr)
}

// throughSieve connects with plain quic-go through a sieve. Protos nil means no ALPN.
// The connection ends after testPatience.
func throughSieve(t *testing.T, addr string, protos ...string) (*quic.Conn, *sieve) {
	t.Helper()
	socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &sieve{PacketConn: socket}
	transport := &quic.Transport{Conn: s}
	t.Cleanup(func() { _ = transport.Close(); _ = socket.Close() })
	server, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	q, err := transport.Dial(t.Context(), server, trust(t, protos...), &quic.Config{
		HandshakeIdleTimeout: testPatience, DisablePathMTUDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	end := time.AfterFunc(testPatience, func() { _ = q.CloseWithError(0, "out of patience") })
	t.Cleanup(func() { end.Stop(); _ = q.CloseWithError(0, "") })
	return q, s
}

// TestIncompleteStreamDelaysNoOther: a stream whose end has arrived and whose start is
// lost does not keep other streams from being accepted.
func TestIncompleteStreamDelaysNoOther(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		srv := serve(t, engine.Config{Dispatch: d, Handler: echo}, Config{})
		for _, c := range []struct {
			protos []string
			ask    func(*quic.Conn, uint32, []byte) error
			open   func(*quic.Conn) (io.WriteCloser, error)
		}{
			{[]string{ALPN}, askOnce, func(q *quic.Conn) (io.WriteCloser, error) { return q.OpenStream() }},
			{nil, askMsgtrans, func(q *quic.Conn) (io.WriteCloser, error) { return q.OpenUniStream() }},
		} {
			q, wire := throughSieve(t, srv.addr, c.protos...)
			buf := make([]byte, 1<<10)
			if err := c.ask(q, 1, buf); err != nil {
				t.Fatal(err)
			}
			wire.closed.Store(true)
			torn, err := c.open(q)
			if err != nil {
				t.Fatal(err)
			}
			send(t, torn, request(t, 2, string(make([]byte, 2000))))
			_ = torn.Close()
			for range 3 {
				if err := c.ask(q, 3, buf); err != nil {
					t.Fatal(err)
				}
			}
		}
	})
}

// TestUnreadAnswersDelayNoOther: finished streams that wait until the peer reads
// answers don't keep other streams from being accepted.
func TestUnreadAnswersDelayNoOther(t *testing.T) {
	const large, never = 1, 2 // IDs of Requests: answered with much, and not at all
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		c, _, q := tap(t, engine.Config{Dispatch: d, OutboxLimit: 256 << 10, OutboxSoftMark: 64 << 10, MaxMessageSize: 128 << 10,
			Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
				switch m.ID {
				case large:
					_ = s.Reply(m, make([]byte, 70<<10))
				case never:
				default:
					_ = s.Reply(m, m.Payload)
				}
			})}, &quic.Config{InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10})
		finished := func(packets ...[]byte) *quic.Stream {
			s := open(t, q)
			send(t, s, slices.Concat(packets...))
			_ = s.Close()
			return s
		}
		finished(request(t, large, ""))
		eventually(t, "the answer to wait", func() bool { return c.queued.Load() > 64<<10 })
		finished(request(t, never, ""), request(t, 3, "")) // one at a time while answers wait
		for range 3 {
			s := finished(request(t, 4, "x"))
			expect(t, s, framing.Response, 4, "x")
			expectEOF(t, s)
		}
	})
}

// TestBusyAccepterEnds: the end of a connection is detected while the callback that
// the accepting goroutine runs waits for the peer.
func TestBusyAccepterEnds(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		r := recorder{onMsg: func(s *engine.Session, m *framing.Message) {
			for s.SendMessageContext(context.Background(), &framing.Message{Stream: m.Stream, Payload: make([]byte, 32<<10)}) == nil {
			}
		}}
		srv := serve(t, engine.Config{Dispatch: d, Handler: &r, OutboxLimit: 128 << 10, OutboxSoftMark: 64 << 10, MaxMessageSize: 64 << 10}, Config{})
		q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 4 << 10, MaxStreamReceiveWindow: 4 << 10}, ALPN)
		s := open(t, q)
		send(t, s, request(t, 1, ""))
		_ = s.Close()
		eventually(t, "the callback", func() bool { return r.count() == 1 })
		_ = q.CloseWithError(0, "")
		r.reason(t)
	})
}
