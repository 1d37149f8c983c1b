package engine

import (
	"testing"

	"github.com/millrace/millrace/framing"
)

// eagerCodec opens the session by its first message.
type eagerCodec struct {
	Codec
	drain func()
}

func (*eagerCodec) NeedsHandshake() bool { return true }
func (c *eagerCodec) Decode(ctl *Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
	ctl.Establish()
	if c.drain != nil {
		c.drain()
		c.drain = nil
	}
	n, err := framing.Packet{}.Decode(b, seen, 1<<20, m)
	return n, n > 0, err
}

type eager struct {
	StreamProtocol
	drain *func()
}

func (p eager) Accept(ctl *Control) Codec {
	return &eagerCodec{p.StreamProtocol.Accept(ctl), func() { (*p.drain)() }}
}
func (eager) Name() string { return "eager" }

// TestOpenBeforeTheMessageThatEstablishes: a codec establishes the session and
// returns a message from the same call of Decode. The ring has no space for OnOpen,
// but has some when the message follows.
func TestOpenBeforeTheMessageThatEstablishes(t *testing.T) {
	m := &model{t: t, onSwitch: ignore}
	var drain func()
	f := newFakeSession(t, Config{Handler: m, RingSize: minRingSize}, eager{Packets(), &drain})
	drain = func() {
		for f.core.consumer.batch() {
		}
	}
	f.run()
	filler := recordWriter{core: f.core}
	nobody := &Session{id: makeID(0, 9, 9)}
	for filler.control(nobody, recordOpen) == nil {
	}
	f.send(packetsOf(0, 3, 10))
	f.run()
	if m.opened != 1 || m.next != 3 {
		t.Errorf("%d OnOpen, %d messages", m.opened, m.next)
	}
}
