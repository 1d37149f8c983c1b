package engine_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// readPackets reads n packets from c, and hands each to f.
func readPackets(t testing.TB, c net.Conn, n int, f func(m *framing.Message)) {
	t.Helper()
	var b []byte
	buf := make([]byte, 64<<10)
	for n > 0 {
		k, err := c.Read(buf)
		if err != nil {
			t.Fatalf("%d packets short: %v", n, err)
		}
		b = append(b, buf[:k]...)
		for {
			var m framing.Message
			size, err := framing.Packet{}.Decode(b, 0, 1<<20, &m)
			if err != nil {
				t.Fatal(err)
			}
			if size == 0 {
				break
			}
			f(&m)
			b = b[size:]
			n--
		}
	}
}

// TestRepliesAndSendsKeepTheirOrder answers a stream of requests in every way
// that there is, mixed, while another goroutine sends to the same session.
func TestRepliesAndSendsKeepTheirOrder(t *testing.T) {
	for _, limits := range []engine.Config{
		{},
		{MaxMessageSize: 300},
		{OutboxSoftMark: 200},
	} {
		eachDispatch(t, func(t *testing.T, d engine.Dispatch) { repliesAndSends(t, d, limits, engine.Packets()) })
		eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
			repliesAndSends(t, d, limits, engine.Framed(framing.Packet{})) // the way of codecs in general
		})
	}
}

func repliesAndSends(t *testing.T, d engine.Dispatch, cfg engine.Config, protocol engine.Protocol) {
	const answers, pushes = 20_000, 5000
	var pusher sync.WaitGroup
	cfg.Dispatch = d
	cfg.Handler = engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		if m.ID == 0 {
			pusher.Go(func() {
				for i := range uint32(pushes) {
					_ = s.SendMessage(&framing.Message{BizType: 1, ID: i})
				}
			})
		}
		switch m.ID / 10 % 4 {
		case 0, 1:
			_ = s.Reply(m, m.Payload)
		case 2:
			m.Type = framing.Response
			_ = s.SendMessage(m)
		case 3:
			_ = s.Reply(m.Clone(), m.Payload)
		}
	})
	_, addr := serve(t, cfg, protocol)
	c := dial(t, addr)
	var requests []byte
	for i := range uint32(answers) {
		p := make([]byte, 4+i%200)
		binary.BigEndian.PutUint32(p, i)
		requests = append(requests, packet(&framing.Message{Type: framing.Request, ID: i, Payload: p})...)
	}
	go func() { _, _ = c.Write(requests) }()
	var next [2]uint32
	readPackets(t, c, answers+pushes, func(m *framing.Message) {
		if m.ID != next[m.BizType] {
			t.Fatalf("%v %d where %d is due", m.Type, m.ID, next[m.BizType])
		}
		next[m.BizType]++
		if m.BizType == 0 && (m.Type != framing.Response || binary.BigEndian.Uint32(m.Payload) != m.ID || len(m.Payload) != int(4+m.ID%200)) {
			t.Fatalf("answer %d is %v of %d bytes", m.ID, m.Type, len(m.Payload))
		}
	})
	pusher.Wait()
}

// TestRepliesInFrontOfTheEnd ends the session in the middle of consecutive messages: the
// replies before it are written, those after it are refused.
func TestRepliesInFrontOfTheEnd(t *testing.T) {
	reason := errors.New("enough")
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		late := make(chan error, 1)
		j := newJournal(func(s *engine.Session, m *framing.Message) {
			_ = s.Reply(m, m.Payload)
			if m.ID == 500 {
				s.CloseWith(reason)
				late <- s.Reply(m, m.Payload)
			}
		})
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d})
		c := dial(t, addr)
		var requests []byte
		for i := range uint32(1000) {
			requests = append(requests, packet(&framing.Message{ID: i, Payload: []byte("payload")})...)
		}
		_, _ = c.Write(requests)
		readPackets(t, c, 501, func(*framing.Message) {})
		if n, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("%d bytes behind the last reply, %v", n, err)
		}
		if err := <-late; !errors.Is(err, reason) {
			t.Errorf("a reply behind the end: %v", err)
		}
		if err := j.reason(t); !errors.Is(err, reason) {
			t.Error(err)
		}
	})
}

// TestCallbackThatSendsMuch: messages that a callback sends to its own session are written
// after the replies before them, as soon as it returns; at most OutboxLimit bytes. The
// peer is not slow then, so the session continues under any policy.
func TestCallbackThatSendsMuch(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		full := make(chan error, 1)
		_, addr := serve(t, engine.Config{Dispatch: d, OutboxLimit: 300 << 10, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
			_ = s.Reply(m, m.Payload)
			if m.ID != 2 {
				return
			}
			var err error
			for id := uint32(10); err == nil; id++ {
				err = s.SendMessage(&framing.Message{ID: id, Payload: make([]byte, 64<<10)})
			}
			full <- err
		})})
		c := dial(t, addr)
		var requests []byte
		for i := range uint32(3) {
			requests = append(requests, packet(&framing.Message{ID: i + 1, Payload: []byte("payload")})...)
		}
		_, _ = c.Write(requests)
		due := []uint32{1, 2, 10, 11, 12, 13, 3}
		readPackets(t, c, len(due), func(m *framing.Message) {
			if m.ID != due[0] {
				t.Fatalf("%d where %v are due", m.ID, due)
			}
			due = due[1:]
		})
		if err := <-full; !errors.Is(err, engine.ErrWouldBlock) {
			t.Errorf("above OutboxLimit: %v", err)
		}
		_, _ = c.Write(ping)
		expect(t, c, pong)
	})
}
