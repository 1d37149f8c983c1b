package engine_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// brittle is a link that panics in the named method.
type brittle struct {
	fakeLink
	in string
}

func (l *brittle) call(name string) {
	if l.in == name {
		panic(name)
	}
}

func (l *brittle) Send(m *framing.Message) error { l.call("Send"); return l.fakeLink.Send(m) }
func (l *brittle) Flush()                        { l.call("Flush"); l.fakeLink.Flush() }
func (l *brittle) PauseReading(p bool)           { l.call("PauseReading"); l.fakeLink.PauseReading(p) }
func (l *brittle) Close(reason error, abort bool) {
	l.call("Close")
	l.fakeLink.Close(reason, abort)
}

// TestHazard31PanicInALink panics in each method of a link: the session ends, and
// nothing else.
func TestHazard31PanicInALink(t *testing.T) {
	for _, method := range []string{"Send", "Flush", "PauseReading", "Close"} {
		t.Run(method, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				f := &fake{}
				ended := make(chan error, 1)
				h := engine.HandlerFuncs{Message: func(s *engine.Session, m *framing.Message) {
					_ = s.Reply(m, m.Payload)
				}, Close: func(s *engine.Session, reason error) {
					if s.Transport() == "fake" {
						ended <- reason
					}
				}}
				e, _, neighbor := withNeighbor(t, engine.Config{Handler: h, Dispatch: d}, engine.Packets())
				if _, err := e.Listen("127.0.0.1:1", f); err != nil {
					t.Fatal(err)
				}
				l := &brittle{in: method, fakeLink: fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}}
				p, err := f.host.Open(l, engine.OpenInfo{Remote: netip.MustParseAddrPort("127.0.0.1:9")})
				if err != nil {
					t.Fatal(err)
				}
				s := p.Session()
				l.port, l.session = p, s
				close(l.opened)
				switch method {
				case "Send":
					if err := s.Send(nil); !errors.Is(err, engine.ErrHandlerPanic) {
						t.Error(err)
					}
				case "Flush":
					_ = l.port.Deliver(&framing.Message{}) // the reply is flushed after the callback
				case "PauseReading":
					s.Pause()
				case "Close":
					s.Close()
				}
				if err := <-ended; method != "Close" && !errors.Is(err, engine.ErrHandlerPanic) {
					t.Error(err)
				}
				waitFor(t, "the end", func() bool { return e.Stats().Panics > 0 && e.Stats().Active == 1 })
				harmless(t, e, neighbor)
			})
		})
	}
}
