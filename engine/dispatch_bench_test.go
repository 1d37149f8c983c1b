package engine

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/framing"
)

// echoes is the shortest handler that answers.
type echoes struct{}

func (echoes) OnOpen(*Session)         {}
func (echoes) OnClose(*Session, error) {}
func (echoes) OnMessage(s *Session, m *framing.Message) {
	_ = s.Reply(m, m.Payload)
}

// BenchmarkDispatch measures a message between the read and the write, on the loop, with a
// thousand small packets a read: decoding, the callback, the reply. There is no socket.
func BenchmarkDispatch(b *testing.B) {
	for name, codec := range map[string]Codec{"packets": packets{}, "codec": Framed(framing.Packet{}).Accept(nil)} {
		b.Run(name, func(b *testing.B) {
			const run = 1000
			c := sessionWithoutSocket(b)
			c.setCodec(codec)
			c.askCodec()
			one, _ := framing.AppendPacket(nil, &framing.Message{Type: framing.Request, ID: 5, Payload: []byte("ping")})
			in := bytes.Repeat(one, run)
			replies := &c.core().consumer.replies
			b.ReportAllocs()
			for done := 0; done < b.N; done += run {
				if rest := c.decode(in, 0); len(rest) > 0 || len(replies.b) != len(in) {
					b.Fatalf("%d bytes left, %d of replies", len(rest), len(replies.b))
				}
				replies.session = nil
				c.setOutput(outputIdle)
			}
		})
	}
}

// BenchmarkOutbox measures a message that is sent outside of callbacks: encoding it into
// the queue, and taking it out, a hundred a write.
func BenchmarkOutbox(b *testing.B) {
	c := sessionWithoutSocket(b)
	s := c.session
	c.setCodec(packets{})
	m := &framing.Message{Payload: []byte("ping")}
	b.ReportAllocs()
	for done := 0; done < b.N; done += 100 {
		for range 100 {
			if err := s.out.Append(c.codec, m); err != nil {
				b.Fatal(err)
			}
		}
		for p := s.out.Next(); p != nil; p = s.out.Next() {
			s.out.Done(len(p))
		}
	}
}

// sessionWithoutSocket is the connection of an open session of an engine that does
// not run.
func sessionWithoutSocket(b *testing.B) *socketConn {
	b.Helper()
	e := New(Config{Handler: echoes{}, Dispatch: Inline, Cores: 1})
	k, err := newCore(e, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = k.loop.Close()
		if r := k.consumer.replies.block; r != nil {
			r.free()
		}
	})
	e.cores = append(e.cores, k)
	s, c := newSocketSession(e, nil, -1, netip.AddrPort{})
	s.phase, s.opened = phaseOpen, true
	s.corked.Store(true)
	c.stage = stageOpen
	return c
}
