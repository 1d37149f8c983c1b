package engine_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

type relay struct {
	open    func(s *engine.Session)
	message func(m *framing.Message)
}

func (r *relay) OnOpen(s *engine.Session)                        { r.open(s) }
func (r *relay) OnMessage(_ *engine.Session, m *framing.Message) { r.message(m) }
func (r *relay) OnClose(*engine.Session, error)                  {}

// TestRelayedMessagesLeave passes messages that came together on to another session
// of the core, which sends nothing else: they must be written.
func TestRelayedMessagesLeave(t *testing.T) {
	ways := map[string]func(to *engine.Session, m *framing.Message){
		"SendMessage": func(to *engine.Session, m *framing.Message) { _ = to.SendMessage(m) },
		"Reply":       func(to *engine.Session, m *framing.Message) { _ = to.Reply(m, m.Payload) },
	}
	for name, send := range ways {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				opened := make(chan *engine.Session, 2)
				var to atomic.Pointer[engine.Session]
				_, addr := serve(t, engine.Config{Dispatch: d, Cores: 1, Handler: &relay{
					open:    func(s *engine.Session) { opened <- s },
					message: func(m *framing.Message) { send(to.Load(), m) },
				}})
				receiver := dial(t, addr)
				_ = receiver.SetDeadline(time.Now().Add(5 * time.Second))
				to.Store(<-opened)
				sender := dial(t, addr)
				<-opened
				const n = 10
				var b []byte
				for i := range uint32(n) {
					b = append(b, packet(&framing.Message{ID: i})...)
				}
				_, _ = sender.Write(b)
				next := uint32(0)
				readPackets(t, receiver, n, func(m *framing.Message) {
					if m.ID != next {
						t.Errorf("message %d, want %d", m.ID, next)
					}
					next++
				})
			})
		})
	}
}
