package engine

import (
	"bytes"
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

// BenchmarkDispatch is what a message costs between the read and the write, on
// the loop, a thousand small packets a read: decoding, the callback, the reply.
// No socket takes part.
func BenchmarkDispatch(b *testing.B) {
	for name, codec := range map[string]Codec{"packets": packets{}, "codec": framed{framing.Packet{}}} {
		b.Run(name, func(b *testing.B) {
			const run = 1000
			s := sessionWithoutSocket(b)
			s.setCodec(codec)
			one, _ := framing.AppendPacket(nil, &framing.Message{Type: framing.Request, ID: 5, Payload: []byte("ping")})
			in := bytes.Repeat(one, run)
			lane := &s.core.consumer.lane
			b.ReportAllocs()
			for done := 0; done < b.N; done += run {
				if rest := s.decodeAll(in, 0); len(rest) > 0 || len(lane.b) != len(in) {
					b.Fatalf("%d bytes left, %d of replies", len(rest), len(lane.b))
				}
				lane.session, s.laned, lane.messages = nil, false, 0
			}
		})
	}
}

// BenchmarkOutbox is what a message costs that is sent from elsewhere: encoding
// it into the queue, and taking it out of there, a hundred a write.
func BenchmarkOutbox(b *testing.B) {
	s := sessionWithoutSocket(b)
	s.setCodec(packets{})
	m := &framing.Message{Payload: []byte("ping")}
	b.ReportAllocs()
	for done := 0; done < b.N; done += 100 {
		for range 100 {
			if err := s.out.Append(s.codec, m); err != nil {
				b.Fatal(err)
			}
		}
		for p := s.out.Next(); p != nil; p = s.out.Next() {
			s.out.Done(len(p))
		}
	}
}

// sessionWithoutSocket is an open session of an engine that doesn't run.
func sessionWithoutSocket(b *testing.B) *Session {
	b.Helper()
	e := New(Config{Handler: echoes{}, Dispatch: Inline, Cores: 1})
	c, err := newCore(e, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.loop.Close() })
	s := &Session{core: c, phase: phaseOpen, opened: true}
	s.out.Init(&e.lim)
	s.corked.Store(true)
	return s
}
