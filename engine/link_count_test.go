package engine_test

import (
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestRepliesAreCountedOnce delivers again and again with Replies that were opened
// for the first delivery only.
func TestRepliesAreCountedOnce(t *testing.T) {
	f := &fake{}
	e, _ := serve(t, engine.Config{Handler: echo, Dispatch: engine.Inline, Cores: 1}, f)
	l := f.open(t)
	var r engine.Replies
	d := engine.Delivery{Replies: &r}
	types := []framing.Type{framing.Request, framing.OneWay, framing.Request, framing.OneWay, framing.Request}
	for i, typ := range types {
		d.Begin(l.session, 0)
		if i == 0 {
			r.Open(make([]byte, 0, 1000), 0)
		}
		if err := d.Message(&framing.Message{ID: uint32(i + 1), Type: typ, Payload: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		_, responses, oneWays := r.Take()
		if i > 0 && responses+oneWays > 0 {
			t.Errorf("delivery %d: %d responses and %d one-way messages were collected by closed Replies", i, responses, oneWays)
		}
		d.End()
		if n := e.Stats().MessagesOut; n != uint64(i+1) {
			t.Errorf("%d messages are counted after %d replies", n, i+1)
		}
	}
}
