// Package serve has the helpers of tests that need a running engine. Tests inside
// package engine and the packages below it can't import it.
package serve

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// Echo is a handler that answers each message with its payload.
var Echo = engine.HandlerFunc(func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, m.Payload) })

// Start starts an engine that listens on 127.0.0.1 for protocols, which are
// Packets if none is named, and returns it with its address. It is closed when
// the test ends. LingerTimeout is 1 s by default, because test clients often
// leave their side open.
func Start(t testing.TB, cfg engine.Config, protocols ...engine.Protocol) (*engine.Engine, string) {
	t.Helper()
	if len(protocols) == 0 {
		protocols = []engine.Protocol{engine.Packets()}
	}
	if cfg.LingerTimeout == 0 {
		cfg.LingerTimeout = time.Second
	}
	e := engine.New(cfg)
	t.Cleanup(func() { _ = e.Close() })
	l, err := e.Listen("127.0.0.1:0", protocols...)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	return e, l.Addr().String()
}

// EachDispatch runs a test once for each dispatch.
func EachDispatch(t *testing.T, test func(t *testing.T, d engine.Dispatch)) {
	t.Run("workers", func(t *testing.T) { test(t, engine.Workers) })
	t.Run("inline", func(t *testing.T) { test(t, engine.Inline) })
}

// ExitAccounted exits after the tests of a package, with code, or with 1 if memory is still
// accounted although every engine has closed: a block, a session or a buffer was counted
// twice, or not uncounted.
func ExitAccounted(code int) {
	if n := engine.New(engine.Config{}).Stats().Memory.Used; code == 0 && n != 0 {
		fmt.Fprintf(os.Stderr, "FAIL: %d bytes are accounted for Config.MemoryLimit after the last engine has closed\n", n)
		code = 1
	}
	os.Exit(code)
}

// Opened is Handler, and sends each session to C after its OnOpen.
type Opened struct {
	engine.Handler
	C chan<- *engine.Session
}

// OnOpen calls the Handler's OnOpen, and then sends s to C. It blocks while C is
// full.
func (o Opened) OnOpen(s *engine.Session) {
	o.Handler.OnOpen(s)
	o.C <- s
}
