package engine_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// counting is a protocol that answers every input byte with a numbered control frame: a
// packet of biz type 1.
type counting struct{ next uint32 }

func (counting) Name() string                        { return "counting" }
func (counting) Match([]byte) engine.Match           { return engine.MatchYes }
func (counting) Accept(*engine.Control) engine.Codec { return &counting{} }
func (counting) Goodbye(dst []byte, _ error) []byte  { return dst }

func (counting) Connect(context.Context, net.Conn, string, engine.Limits) (engine.Codec, []byte, error) {
	return nil, nil, errors.ErrUnsupported
}

func (c *counting) Decode(ctl *engine.Control, b []byte, _ int, _ *framing.Message) (int, bool, error) {
	for range b {
		c.next++
		if err := ctl.SendControl(packet(&framing.Message{ID: c.next, BizType: 1})); err != nil {
			return 0, false, err
		}
	}
	return len(b), false, nil
}

func (*counting) Append(dst []byte, m *framing.Message) ([]byte, error) {
	return framing.Packet{}.Append(dst, m)
}

// TestControlFramesKeepTheirOrder answers bytes by control frames while the
// socket is full of messages and the peer takes a little now and then.
func TestControlFramesKeepTheirOrder(t *testing.T) {
	j := newJournal(nil)
	_, addr := serve(t, engine.Config{Handler: j, Cores: 1, OutboxLimit: 64 << 20, OutboxSoftMark: 32 << 20,
		Socket: engine.SocketOptions{WriteBuffer: 16 << 10}}, counting{})
	c := dial(t, addr)
	_ = c.SetReadBuffer(64 << 10)
	s := j.session(t)
	for range 4000 {
		_ = s.Send(make([]byte, 2000))
	}
	const controls = 100
	var got []byte
	buf, last := make([]byte, 4<<10), uint32(0)
	for seen, reads := 0, 0; seen < controls; reads++ {
		if reads%8 == 0 && reads/8 < controls {
			_, _ = c.Write([]byte{1})
		}
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("after %d control frames and %d reads: %v", seen, reads, err)
		}
		got = append(got, buf[:n]...)
		for {
			var m framing.Message
			n, err := framing.Packet{}.Decode(got, 0, 1<<20, &m)
			if err != nil {
				t.Fatal(err) // a control frame inside a message
			}
			if n == 0 {
				break
			}
			if got = got[n:]; m.BizType == 0 {
				continue
			}
			if seen++; m.ID != last+1 {
				t.Fatalf("control frame %d behind %d", m.ID, last)
			}
			last = m.ID
		}
	}
}

// TestControlFramesAreBounded queues control frames for a peer that reads nothing.
func TestControlFramesAreBounded(t *testing.T) {
	const bound, frame = 4 << 10, 100
	j := newJournal(nil)
	var ctl *engine.Control
	p := &scripted{accept: func(c *engine.Control) engine.Codec {
		ctl = c
		return engine.Packets().Accept(c)
	}}
	_, addr := serve(t, engine.Config{Handler: j, Cores: 1, OutboxLimit: 64 << 20, OutboxSoftMark: 32 << 20}, p)
	dial(t, addr)
	s := j.session(t)
	for range 32 { // more than any socket takes
		if err := s.Send(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	queued := 0
	for ; queued < 10*bound && err == nil; queued += frame {
		err = ctl.SendControl(make([]byte, frame))
	}
	if !errors.Is(err, engine.ErrWouldBlock) || queued-frame > bound {
		t.Errorf("%d bytes of control frames wait, then %v", queued-frame, err)
	}
	if s.Err() != nil {
		t.Error(s.Err())
	}
}
