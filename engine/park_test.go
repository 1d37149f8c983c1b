package engine_test

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestWorkerSeesWhatCameBeforeItSlept delivers one message at a time, each a
// little later after the one before was handled: so some come just when the worker
// has looked at its ring for the last time and goes to sleep.
func TestWorkerSeesWhatCameBeforeItSlept(t *testing.T) {
	const rounds, longest = 60_000, 400
	var handled atomic.Int64
	f := &fake{}
	serve(t, engine.Config{Cores: 1, Handler: engine.HandlerFunc(func(*engine.Session, *framing.Message) { handled.Add(1) })}, f)
	l := f.open(t)
	m := &framing.Message{}
	for n := int64(1); n <= rounds; n++ {
		if err := l.port.Deliver(m); err != nil {
			t.Fatal(err)
		}
		for spins := 0; handled.Load() < n; spins++ {
			if spins < 1000 {
				continue
			}
			runtime.Gosched()
			if spins == 2000 {
				waitFor(t, fmt.Sprint("message ", n), func() bool { return handled.Load() >= n })
			}
		}
		for range n * 7 % longest {
			handled.Load()
		}
	}
}
