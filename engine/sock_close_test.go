package engine

import (
	"errors"
	"io"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/framing"
)

// TestCloseAfterAWriteFailed: the connection broke, and the messages that the peer
// had sent are still handled, until the handler closes the session. Then no message
// comes any more.
func TestCloseAfterAWriteFailed(t *testing.T) {
	for name, end := range map[string]func(s *Session){
		"close": func(s *Session) { s.Close() },
		"panic": func(*Session) { panic("on purpose") },
	} {
		for _, d := range []Dispatch{Workers, Inline} {
			t.Run(name, func(t *testing.T) {
				m := &model{t: t}
				m.onSwitch = func(s *Session, msg *framing.Message) {
					switch msg.ID {
					case 1:
						end(s)
					case 0:
					default:
						t.Errorf("message %d after the session was closed", msg.ID)
					}
				}
				f := newFakeSession(t, Config{Handler: m, Dispatch: d, Logger: discardLogger()}, Packets())
				f.run()
				f.writeErr = unix.EPIPE
				_ = f.conn.session.Send(nil)
				f.run()
				b := packetsOf(0, 5, 100)
				cut := len(b) / 2
				f.send(b[:cut])
				f.run()
				f.send(b[cut:])
				f.run()
				f.end(io.EOF)
				f.run()
				if m.closed != 1 || !errors.Is(m.reason, ErrConnectionLost) {
					t.Errorf("closed %d times, by %v", m.closed, m.reason)
				}
			})
		}
	}
}
