package quicbridge

import (
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// TestSlowConsumerPolicies: if a peer doesn't read for a while, the engine's policy
// applies. The peer keeps its session, and gets the kept messages when it reads,
// with one stream and with others that hold bytes too.
func TestSlowConsumerPolicies(t *testing.T) { eachDispatch(t, testSlowConsumerPolicies) }

func testSlowConsumerPolicies(t *testing.T, d engine.Dispatch) {
	const limit = 256 << 10
	for _, policy := range []engine.SlowConsumerPolicy{engine.SlowConsumerDropNewest, engine.SlowConsumerDropOldest} {
		for _, streams := range []int{1, 3} {
			sent := make(chan error, 1)
			srv := serve(t, engine.Config{Dispatch: d, SlowConsumer: policy, OutboxSoftMark: limit / 2, OutboxLimit: limit,
				MaxMessageSize: limit / 2, Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
					if m.Type != framing.Request {
						_ = s.Reply(m, make([]byte, limit/8)) // so that this stream holds something
						return
					}
					var err error
					for i := uint32(1); i <= 400 && err == nil; i++ {
						reply := framing.Message{Type: framing.Response, Stream: m.Stream, ID: i, Payload: make([]byte, 2000)}
						if err = s.SendMessage(&reply); policy == engine.SlowConsumerDropOldest && errors.Is(err, engine.ErrDropped) {
							err = nil
						}
					}
					sent <- err
				})}, Config{})
			q := raw(t, srv.addr, &quic.Config{InitialStreamReceiveWindow: 8 << 10, MaxStreamReceiveWindow: 8 << 10}, ALPN)
			for range streams - 1 {
				send(t, open(t, q), packet(t, framing.Message{}))
			}
			time.Sleep(50 * time.Millisecond)
			s := open(t, q)
			send(t, s, request(t, 1, ""))
			err := <-sent
			switch {
			case policy == engine.SlowConsumerDropNewest && !errors.Is(err, engine.ErrDropped),
				policy == engine.SlowConsumerDropOldest && err != nil:
				t.Fatalf("policy %d, %d streams: sending ended with %v", policy, streams, err)
			}
			last, n := uint32(0), 0
			_ = s.SetReadDeadline(time.Now().Add(time.Second))
			for {
				m, err := next(s)
				if err != nil {
					break
				}
				if m.ID <= last || len(m.Payload) != 2000 {
					t.Fatalf("policy %d: message %d comes behind %d", policy, m.ID, last)
				}
				last = m.ID
				n++
			}
			if n < 20 || n > limit/2000+80 {
				t.Fatalf("policy %d, %d streams: %d messages came", policy, streams, n)
			}
			if policy == engine.SlowConsumerDropOldest && streams == 1 && last != 400 {
				t.Fatalf("the newest message that came is %d", last)
			}
			for c := range srv.Sessions() {
				if err := c.Err(); err != nil {
					t.Fatalf("policy %d: the session ended with %v", policy, err)
				}
			}
		}
	}
}
