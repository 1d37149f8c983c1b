package engine_test

import (
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
)

// TestSessionsThatNeverOpenedAreInvisible looks for a session whose handshake
// failed while its connection lingers, and for one whose handshake is under way.
func TestSessionsThatNeverOpenedAreInvisible(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		ids := make(chan engine.ID, 10)
		p := &scripted{accept: func(ctl *engine.Control) engine.Codec {
			ids <- ctl.Session().ID()
			return &scriptedCodec{Codec: engine.Packets().Accept(ctl), greeting: greets("hello", func(*engine.Control) {}),
				goodbye: func(dst []byte, _ error) []byte { return append(dst, "goodbye"...) }}
		}}
		j := newJournal(reply)
		cfg := engine.Config{Handler: j, Dispatch: d, HandshakeTimeout: 100 * time.Millisecond, LingerTimeout: time.Hour}
		e, addr := serve(t, cfg, p)
		c := dial(t, addr)
		failed := <-ids
		expect(t, c, []byte("goodbye")) // and it lingers, because c stays open
		if e.Session(failed) != nil {
			t.Error("found by its ID though its handshake failed")
		}
		for s := range e.Sessions() {
			t.Error("visible though its handshake failed: ", s.ID(), s.Err())
		}
		if e.Stats().Active != 1 {
			t.Error("it doesn't linger")
		}
		good := dial(t, addr)
		_, _ = good.Write([]byte("hello"))
		s := j.session(t)
		if e.Session(s.ID()) != s {
			t.Error("an open session isn't found by its ID")
		}
		s.Close() // it closes, lingers, and is visible
		expect(t, good, []byte("goodbye"))
		if e.Session(s.ID()) != s && len(j.reasons) == 0 {
			t.Error("a closing session isn't found by its ID")
		}
	})
}
