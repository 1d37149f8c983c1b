package engine_test

import (
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestRepliesAreCountedOnce delivers again and again, and collects the replies of the
// first delivery only.
func TestRepliesAreCountedOnce(t *testing.T) {
	f := &fake{}
	e, _ := serve(t, engine.Config{Handler: echo, Dispatch: engine.Inline, Cores: 1}, f)
	l := f.open(t)
	var d engine.Delivery
	types := []framing.Type{framing.Request, framing.OneWay, framing.Request, framing.OneWay, framing.Request}
	for i, typ := range types {
		d.Begin(l.port, 0)
		if i == 0 {
			d.Collect(make([]byte, 0, 1000), 0)
		}
		if err := d.Message(&framing.Message{ID: uint32(i + 1), Type: typ, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		_, responses, oneWays := d.Collected()
		if i > 0 && responses+oneWays > 0 {
			t.Errorf("delivery %d: %d responses and %d one-way messages were collected", i, responses, oneWays)
		}
		d.End()
		if n := e.Stats().MessagesOut; n != uint64(i+1) {
			t.Errorf("%d messages are counted after %d replies", n, i+1)
		}
	}
}
