package quicbridge

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// TestHazard01SplitAndCoalesced sends 50 packets cut at every byte, and all at
// once.
func TestHazard01SplitAndCoalesced(t *testing.T) { eachDispatch(t, testHazard01SplitAndCoalesced) }

func testHazard01SplitAndCoalesced(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	var all []byte
	for i := range 50 {
		all = append(all, request(t, uint32(i), name(i))...)
	}
	check := func(s *quic.Stream) {
		t.Helper()
		for i := range 50 {
			expect(t, s, framing.Response, uint32(i), name(i))
		}
	}
	s := open(t, q)
	for _, b := range all {
		send(t, s, []byte{b})
		time.Sleep(10 * time.Microsecond) // so that pieces arrive apart
	}
	check(s)
	send(t, s, all)
	check(s)
	for cut := 1; cut < 60; cut++ { // across the first packets' headers and bodies
		send(t, s, all[:cut])
		time.Sleep(200 * time.Microsecond)
		send(t, s, all[cut:])
		check(s)
	}
}

// TestReplyReturnsToItsStream interleaves many streams and checks that each gets
// its own replies, in order.
func TestReplyReturnsToItsStream(t *testing.T) { eachDispatch(t, testReplyReturnsToItsStream) }

func testReplyReturnsToItsStream(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	var wg sync.WaitGroup
	for stream := range 20 {
		s := open(t, q)
		wg.Go(func() {
			for i := range 50 {
				id := uint32(stream*1000 + i)
				if _, err := s.Write(request(t, id, name(int(id)))); err != nil {
					t.Error(err)
					return
				}
			}
			for i := range 50 {
				id := uint32(stream*1000 + i)
				m, err := next(s)
				if err != nil || m.ID != id || string(m.Payload) != name(int(id)) {
					t.Errorf("stream %d: reply %d is %v, %v", stream, i, m, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestLargeMessages sends messages around and above the sizes of every buffer.
func TestLargeMessages(t *testing.T) { eachDispatch(t, testLargeMessages) }

func testLargeMessages(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo, MaxMessageSize: 3 << 20, OutboxLimit: 8 << 20}, Config{})
	s := open(t, raw(t, srv.addr, nil, ALPN))
	for i, size := range []int{0, 1, tailSize - 17, tailSize - 16, tailSize - 15, burstSize - 17, burstSize - 16,
		burstSize, 4 * burstSize, 1 << 20, 1<<20 + tailSize, 3 << 20} {
		payload := strings.Repeat(string(rune('a'+i)), size)
		send(t, s, request(t, uint32(i), payload))
		expect(t, s, framing.Response, uint32(i), payload)
	}
}

// TestServerSpeaksFirst: without a stream of the client the server opens one of
// its own, and a dialed session reads it.
func TestServerSpeaksFirst(t *testing.T) { eachDispatch(t, testServerSpeaksFirst) }

func testServerSpeaksFirst(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFuncs{
		Open: func(s *engine.Session) { _ = s.Send([]byte("welcome")) },
		Message: func(s *engine.Session, m *framing.Message) {
			_ = s.Send([]byte("to the first stream"))
			_ = s.Reply(m, m.Payload)
		},
	}}, Config{})
	c := newClient(t, engine.Config{Dispatch: d}, Config{})
	s := c.dial(t, srv.addr)
	c.await(t, "the welcome", func() bool { return len(c.got) == 1 && string(c.got[0].Payload) == "welcome" })
	if err := s.SendMessage(&framing.Message{Type: framing.Request, ID: 1, Payload: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	c.await(t, "two answers", func() bool { return len(c.got) == 3 })
	streams := map[string]uint64{}
	for _, m := range c.got {
		streams[string(m.Payload)] = m.Stream
	}
	if streams["welcome"] == 0 || streams["welcome"] != streams["to the first stream"] || streams["x"] == streams["welcome"] {
		t.Fatalf("messages came on the streams %v", streams)
	}
}

// TestFirstStreamIsTheClients: a message without a stream goes to the first one
// that the client opened, and so does one for a stream that doesn't exist.
func TestFirstStreamIsTheClients(t *testing.T) {
	for _, stream := range []uint64{0, 4711} {
		srv := serve(t, engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
			_ = s.SendMessage(&framing.Message{ID: m.ID, Stream: stream, Payload: m.Payload})
		})}, Config{})
		q := raw(t, srv.addr, nil, ALPN)
		first, second := open(t, q), open(t, q)
		send(t, first, request(t, 1, "a"))
		expect(t, first, framing.OneWay, 1, "a")
		send(t, second, request(t, 2, "b"))
		expect(t, first, framing.OneWay, 2, "b")
	}
}

// TestManyShortStreams opens, asks, finishes, reads and forgets many more streams
// than the peer allows at a time: each one must be finished, or credit runs out.
func TestManyShortStreams(t *testing.T) { eachDispatch(t, testManyShortStreams) }

func testManyShortStreams(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo}, Config{MaxStreams: 8})
	q := raw(t, srv.addr, nil, ALPN)
	for i := range 500 {
		s := open(t, q)
		send(t, s, request(t, uint32(i), name(i)))
		_ = s.Close()
		expect(t, s, framing.Response, uint32(i), name(i))
		expectEOF(t, s)
	}
}

// TestManyShortStreamsOfOneWays does the same with messages without an answer, at a
// rate that waiting for an answer would not allow.
func TestManyShortStreamsOfOneWays(t *testing.T) { eachDispatch(t, testManyShortStreamsOfOneWays) }

func testManyShortStreamsOfOneWays(t *testing.T, d engine.Dispatch) {
	var r recorder
	srv := serve(t, engine.Config{Dispatch: d, Handler: &r}, Config{MaxStreams: 8})
	q := raw(t, srv.addr, nil, ALPN)
	const n = 500
	began := time.Now()
	for i := range n {
		s := open(t, q)
		send(t, s, packet(t, framing.Message{ID: uint32(i)}))
		_ = s.Close()
		s.CancelRead(0)
	}
	eventually(t, "all messages", func() bool { return r.count() == n })
	if took, floor := time.Since(began), n/8*replyGrace; took > floor {
		t.Fatalf("%v for %d streams: each of them was waited for", took, n)
	}
}

// TestFarewell: a stream without a byte says that the peer is leaving; nothing is
// kept open for replies to its OneWays after that.
func TestFarewell(t *testing.T) {
	var r recorder
	srv := serve(t, engine.Config{Handler: &r}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	const n = 20
	began := time.Now()
	for i := range n {
		s := open(t, q)
		send(t, s, packet(t, framing.Message{ID: uint32(i)}))
		_ = s.Close()
		if i == 0 {
			_ = open(t, q).Close()
		}
		expectEOF(t, s)
	}
	if took := time.Since(began); took > n/2*replyGrace {
		t.Fatalf("%v for %d streams: each of them was waited for", took, n)
	}
}

// TestHazard15HalfClose: a client that finishes its stream and waits gets its
// replies, however late, and then the end of the stream.
func TestHazard15HalfClose(t *testing.T) { eachDispatch(t, testHazard15HalfClose) }

func testHazard15HalfClose(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		m = m.Clone()
		time.AfterFunc(replyGrace+replyGrace/2, func() { _ = s.Reply(m, m.Payload) })
	})}, Config{})
	s := open(t, raw(t, srv.addr, nil, ALPN))
	for i := range 3 {
		send(t, s, request(t, uint32(i), name(i)))
	}
	_ = s.Close()
	got := map[uint32]bool{}
	for range 3 {
		m, err := next(s)
		if err != nil {
			t.Fatal(err)
		}
		got[m.ID] = true
	}
	if len(got) != 3 {
		t.Fatalf("got replies %v", got)
	}
	expectEOF(t, s)
}

// TestHalfCloseOneWay: also a OneWay's answer comes back on a finished stream.
func TestHalfCloseOneWay(t *testing.T) { eachDispatch(t, testHalfCloseOneWay) }

func testHalfCloseOneWay(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: echo}, Config{})
	for range 20 {
		s := open(t, raw(t, srv.addr, nil, ALPN))
		send(t, s, packet(t, framing.Message{ID: 9, Payload: []byte("hello")}))
		_ = s.Close()
		expect(t, s, framing.OneWay, 9, "hello")
		expectEOF(t, s)
	}
}

// TestHalfCloseStreaming: only the last of several Responses counts, and a
// cancelled Request isn't waited for.
func TestHalfCloseStreaming(t *testing.T) { eachDispatch(t, testHalfCloseStreaming) }

func testHalfCloseStreaming(t *testing.T, d engine.Dispatch) {
	srv := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		if m.Type != framing.Request || m.ID != 1 {
			return
		}
		stream := m.Stream
		go func() {
			for i := range 5 {
				flags := framing.FlagMore
				if i == 4 {
					flags = 0
				}
				_ = s.SendMessage(&framing.Message{Type: framing.Response, ID: 1, Stream: stream, Flags: flags})
				time.Sleep(20 * time.Millisecond)
			}
		}()
	})}, Config{})
	s := open(t, raw(t, srv.addr, nil, ALPN))
	send(t, s, request(t, 1, ""))
	send(t, s, request(t, 2, "")) // is never answered
	send(t, s, packet(t, framing.Message{ID: 2, Flags: framing.FlagCancel}))
	_ = s.Close()
	for range 5 {
		expect(t, s, framing.Response, 1, "")
	}
	expectEOF(t, s)
}

// TestStopSending: a peer that doesn't want replies on a stream gets none, and
// the session and its other streams live.
func TestStopSending(t *testing.T) { eachDispatch(t, testStopSending) }

func testStopSending(t *testing.T, d engine.Dispatch) {
	errs := make(chan error, 100)
	srv := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		errs <- s.Reply(m, m.Payload)
	})}, Config{})
	q := raw(t, srv.addr, nil, ALPN)
	s := open(t, q)
	send(t, s, request(t, 1, "x"))
	expect(t, s, framing.Response, 1, "x")
	<-errs
	s.CancelRead(7)
	for stopped := false; !stopped; {
		send(t, s, request(t, 2, "y"))
		err := <-errs
		stopped = errors.Is(err, engine.ErrPeerClosed)
		if err != nil && !stopped {
			t.Fatal(err)
		}
	}
	other := open(t, q)
	send(t, other, request(t, 3, "z"))
	expect(t, other, framing.Response, 3, "z")
}

// TestBadPacket: an invalid packet closes its connection with a typed error and a
// code, and no other connection.
func TestBadPacket(t *testing.T) {
	for _, c := range []struct {
		name  string
		bytes []byte
		code  Code
		err   error
	}{
		{"version", []byte{9}, CodeProtocol, framing.ErrMalformed},
		{"type", append([]byte{1, 0, 9, 0}, make([]byte, 12)...), CodeProtocol, framing.ErrMalformed},
		{"too large", append([]byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 0, 0), CodeTooLarge, engine.ErrTooLarge},
		{"truncated", request(t, 1, "four")[:18], CodeProtocol, io.ErrUnexpectedEOF},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r recorder
			r.onMsg = echo
			srv := serve(t, engine.Config{Handler: &r}, Config{})
			good := open(t, raw(t, srv.addr, nil, ALPN))
			bad := raw(t, srv.addr, nil, ALPN)
			s := open(t, bad)
			send(t, s, c.bytes)
			_ = s.Close()
			expectCode(t, bad, c.code)
			if err := r.reason(t); !errors.Is(err, engine.ErrProtocol) || !errors.Is(err, c.err) {
				t.Fatalf("OnClose got %v", err)
			}
			send(t, good, request(t, 1, "x"))
			expect(t, good, framing.Response, 1, "x")
		})
	}
}

// TestResetStream: a stream that the peer gives up in the middle of a packet is
// no error.
func TestResetStream(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{MaxStreams: 4})
	q := raw(t, srv.addr, nil, ALPN)
	for i := range 50 {
		s := open(t, q)
		send(t, s, request(t, uint32(i), "cut off")[:20])
		s.CancelWrite(1)
		s.CancelRead(1)
	}
	s := open(t, q)
	send(t, s, request(t, 99, "x"))
	expect(t, s, framing.Response, 99, "x")
}

// TestPause: a paused session's peer is held by flow control, and goes on after.
func TestPause(t *testing.T) { eachDispatch(t, testPause) }

func testPause(t *testing.T, d engine.Dispatch) {
	var r recorder
	sessions := make(chan *engine.Session, 1)
	r.onOpen = func(s *engine.Session) { s.Pause(); sessions <- s }
	srv := serve(t, engine.Config{Dispatch: d, Handler: &r}, Config{InitialWindow: 64 << 10})
	s := open(t, raw(t, srv.addr, nil, ALPN))
	session := <-sessions
	chunk := request(t, 1, strings.Repeat("x", 1000))
	_ = s.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
	written := 0
	for {
		n, err := s.Write(chunk)
		written += n
		if err != nil {
			break
		}
	}
	if written > 40<<10 || r.count() > 0 {
		t.Fatalf("%d bytes were taken and %d messages came while paused", written, r.count())
	}
	session.Resume()
	_ = s.SetWriteDeadline(time.Now().Add(testPatience))
	send(t, s, chunk[written%len(chunk):])
	whole := written/len(chunk) + 1
	eventually(t, "the messages", func() bool { return r.count() == whole })
}

// TestHazard02FirstMessage: a client may send at once; OnOpen comes first.
func TestHazard02FirstMessage(t *testing.T) { eachDispatch(t, testHazard02FirstMessage) }

func testHazard02FirstMessage(t *testing.T, d engine.Dispatch) {
	var mu sync.Mutex
	opened := map[engine.ID]bool{}
	late := 0
	srv := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFuncs{
		Open: func(s *engine.Session) {
			time.Sleep(5 * time.Millisecond)
			mu.Lock()
			opened[s.ID()] = true
			mu.Unlock()
		},
		Message: func(s *engine.Session, m *framing.Message) {
			mu.Lock()
			if !opened[s.ID()] {
				late++
			}
			mu.Unlock()
			_ = s.Reply(m, m.Payload)
		},
	}}, Config{})
	for i := range 20 {
		s := open(t, raw(t, srv.addr, nil, ALPN))
		send(t, s, request(t, uint32(i), "first"))
		expect(t, s, framing.Response, uint32(i), "first")
	}
	mu.Lock()
	defer mu.Unlock()
	if late > 0 {
		t.Fatalf("%d messages came before OnOpen", late)
	}
}

// TestBuffers: contents survive growing and shrinking, and sizes are kept.
func TestBuffers(t *testing.T) {
	b := newBuffer(1)
	if len(b.b) != tailSize {
		t.Fatalf("the smallest buffer has %d bytes", len(b.b))
	}
	want := bytes.Repeat([]byte("abcd"), tailSize/4)
	copy(b.b, want)
	limit := framing.PacketHeaderSize + 3<<20
	for len(b.b) < limit {
		n := len(b.b)
		b = b.resized(n, b.next(limit))
		if len(b.b) <= n || !bytes.Equal(b.b[:len(want)], want) {
			t.Fatalf("grown from %d to %d", n, len(b.b))
		}
	}
	if len(b.b) != limit {
		t.Fatalf("grown to %d, beyond %d", len(b.b), limit)
	}
	if b = b.resized(len(want), tailSize); len(b.b) != tailSize || !bytes.Equal(b.b, want) {
		t.Fatal("shrinking lost bytes")
	}
	b.free()
	(*buffer)(nil).free()
}
