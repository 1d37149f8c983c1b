package engine_test

import (
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestUrgentByteDoesNotHideWhatFollows: a read stops before an urgent byte (tcp(7)), even
// if more bytes follow it.
func TestUrgentByteDoesNotHideWhatFollows(t *testing.T) {
	entered, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		if string(m.Payload) == "hold" {
			once.Do(func() { close(entered); <-goOn })
			return
		}
		reply(s, m)
	})
	_, addr := serve(t, engine.Config{Handler: h, Dispatch: engine.Inline, Cores: 1})
	busy, c := dial(t, addr), dial(t, addr)
	ask(t, c)
	_, _ = busy.Write(packet(&framing.Message{Payload: []byte("hold")}))
	<-entered // the loop stands still: all of c's bytes are there at once
	_, _ = c.Write(ping)
	raw, _ := c.SyscallConn()
	_ = raw.Control(func(fd uintptr) { _ = syscall.Sendto(int(fd), []byte("!"), syscall.MSG_OOB, nil) })
	_, _ = c.Write(ping)
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	_ = c.SetReadDeadline(time.Now().Add(3 * time.Second))
	expect(t, c, pong)
	expect(t, c, pong)
}
