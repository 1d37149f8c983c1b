package quicbridge

import (
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

func TestRoundTrip(t *testing.T) {
	for _, dispatch := range []engine.Dispatch{engine.Workers, engine.Inline} {
		srv := serve(t, engine.Config{Handler: echo, Dispatch: dispatch}, Config{})
		c := newClient(t, engine.Config{Dispatch: dispatch}, Config{})
		s := c.dial(t, srv.addr)
		if s.Transport() != "quic" || !s.Dialed() || s.RemoteAddr().String() != srv.addr {
			t.Fatalf("transport %q, dialed %v, remote %v", s.Transport(), s.Dialed(), s.RemoteAddr())
		}
		const n = 1000
		for i := range n {
			m := &framing.Message{Type: framing.Request, ID: uint32(i), BizType: 7, Payload: []byte(name(i))}
			if err := s.SendMessage(m); err != nil {
				t.Fatal(err)
			}
		}
		c.await(t, "the replies", func() bool { return len(c.got) == n })
		for i, m := range c.got {
			if m.Type != framing.Response || m.ID != uint32(i) || string(m.Payload) != name(i) || m.BizType != 7 {
				t.Fatalf("reply %d is %+v", i, m)
			}
		}
	}
}
