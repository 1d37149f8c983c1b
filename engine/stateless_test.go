package engine_test

import (
	"bytes"
	"errors"
	"net"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// statelessCodec is a codec that a handshake decides to be stateless, or not.
type statelessCodec struct {
	scriptedCodec
	stateless func() bool
}

func (c *statelessCodec) StatelessAppend() bool { return c.stateless() }

// TestStatelessAppendIsAskedAtOpening: once, after the handshake. Only a codec that says
// yes encodes replies without the session's lock.
func TestStatelessAppendIsAskedAtOpening(t *testing.T) {
	for _, stateless := range []bool{true, false} {
		eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
			var greeted atomic.Bool
			var asked atomic.Int32
			sessions := make(chan *engine.Session, 1)
			p := &scripted{accept: func(ctl *engine.Control) engine.Codec {
				sessions <- ctl.Session()
				c := &statelessCodec{stateless: func() bool {
					asked.Add(1)
					return stateless && greeted.Load()
				}}
				c.Codec = engine.Packets().Accept(nil)
				c.greeting = greets("!", func(*engine.Control) { greeted.Store(true) })
				c.append = func(dst []byte, m *framing.Message) ([]byte, error) {
					s := <-sessions
					sessions <- s
					if got := !locked(s, stateless); got != stateless {
						t.Errorf("stateless %t, but encoded without the lock: %t", stateless, got)
					}
					return framing.AppendPacket(dst, m)
				}
				return c
			}}
			_, addr := serve(t, engine.Config{Handler: echo, Dispatch: d}, p)
			c := dial(t, addr)
			_, _ = c.Write(append([]byte("!"), bytes.Repeat(ping, 3)...))
			expect(t, c, bytes.Repeat(pong, 3))
			if asked.Load() != 1 {
				t.Errorf("asked %d times", asked.Load())
			}
		})
	}
}

// locked reports whether the session's lock is held. If it is expected to be free, locked
// waits for it.
func locked(s *engine.Session, free bool) bool {
	done := make(chan struct{})
	go func() {
		_ = s.Err() // it takes the lock
		close(done)
	}()
	for range 1000 {
		select {
		case <-done:
			return false
		default:
			runtime.Gosched()
		}
	}
	if free {
		<-done
		return false
	}
	return true
}

// TestPanicInStatelessAppend ends the session of a dialed connection, and nothing else.
func TestPanicInStatelessAppend(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo})
	p := &scripted{}
	c := &statelessCodec{stateless: func() bool { panic("stateless") }}
	c.Codec = engine.Packets().Accept(nil)
	p.connect = func(net.Conn) (engine.Codec, []byte, error) { return c, nil, nil }
	s, err := e.Dial(t.Context(), addr, p)
	if err == nil {
		err = s.Err()
	}
	if !errors.Is(err, engine.ErrHandlerPanic) {
		t.Errorf("the session ends with %v", err)
	}
	peer := dial(t, addr)
	_, _ = peer.Write(ping)
	expect(t, peer, pong)
}
