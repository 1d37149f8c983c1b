package quicbridge

import (
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestCancelBehindCollectedReply: a Request that is cancelled in the read that
// brought it, and was answered, leaves nothing for which the finished stream would
// have to be kept. Another stream, which is kept for replyGrace, is the clock; on a
// machine that stands still it may be early, so it is asked three times.
func TestCancelBehindCollectedReply(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		s := serve(t, engine.Config{Dispatch: d, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
			if m.Type == framing.Request {
				_ = s.Reply(m, m.Payload)
			}
		})}, Config{})
		for range 3 {
			if !cancelledIsKept(t, s.addr) {
				return
			}
		}
		t.Error("the answered stream was kept for a reply that nobody owes")
	})
}

// cancelledIsKept reports whether a stream whose only Request was answered and
// cancelled ends no sooner than one that is kept for replyGrace.
func cancelledIsKept(t *testing.T, addr string) bool {
	q := raw(t, addr, nil, ALPN)
	var graced atomic.Bool
	slow := open(t, q)
	send(t, slow, packet(t, framing.Message{ID: 9, Payload: []byte("x")}))
	_ = slow.Close()
	done := make(chan struct{})
	go func() { defer close(done); _, _ = next(slow); graced.Store(true) }()
	st := open(t, q)
	b := append(request(t, 1, "abc"), packet(t, framing.Message{ID: 1, Flags: framing.FlagCancel})...)
	send(t, st, b)
	_ = st.Close()
	expect(t, st, framing.Response, 1, "abc")
	expectEOF(t, st)
	kept := graced.Load()
	<-done
	return kept
}
