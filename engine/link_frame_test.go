package engine_test

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// noteLink is a fakeLink that notes the messages that it gets, and fails with err.
type noteLink struct {
	*fakeLink
	sent []*framing.Message
	err  error
}

func (l *noteLink) Send(m *framing.Message) error {
	l.sent = append(l.sent, m.Clone())
	return l.err
}

// sharingLink is a noteLink that takes frames and payloads, and calls release twice.
type sharingLink struct {
	*noteLink
	frames []*engine.Frame
}

func (l *sharingLink) SendFrame(f *engine.Frame) error {
	l.frames = append(l.frames, f)
	return l.err
}

func (l *sharingLink) SendOwned(m *framing.Message, release func()) error {
	if l.Send(m) != nil {
		panic("the link fails")
	}
	go release()
	go release()
	return nil
}

// openLink opens link, of which base is the fakeLink, and returns its session.
func openLink(t *testing.T, f *fake, link engine.Link, base *fakeLink) *engine.Session {
	t.Helper()
	p, err := f.host.Open(link, engine.OpenInfo{Remote: netip.MustParseAddrPort("127.0.0.1:9")})
	if err != nil {
		t.Fatal(err)
	}
	base.port, base.session = p, p.Session()
	close(base.opened)
	return p.Session()
}

// TestLinksGetFramesAndOwnedPayloads: a Link that does not share gets them by Send. Both
// kinds are flushed, and release runs once, even if the Link calls it twice or panics.
func TestLinksGetFramesAndOwnedPayloads(t *testing.T) {
	for _, sharing := range []bool{false, true} {
		f := &fake{}
		_, _ = serve(t, engine.Config{Handler: echo}, f)
		note := &noteLink{fakeLink: &fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}}
		shares := &sharingLink{noteLink: note}
		link := engine.Link(note)
		if sharing {
			link = shares
		}
		s := openLink(t, f, link, note.fakeLink)
		frame := engine.NewFrame(&framing.Message{ID: 7, Payload: []byte("frame")})
		flushes := note.flushes.Load()
		if err := s.SendFrame(frame); err != nil {
			t.Error(err)
		}
		testkit.Eventually(t, func() bool { return note.flushes.Load() > flushes }, "a flush") // behind OnOpen, if that runs
		if sharing && (len(shares.frames) != 1 || shares.frames[0] != frame || len(note.sent) != 0) {
			t.Error("the Link did not get the frame")
		}
		if !sharing && (len(note.sent) != 1 || note.sent[0].ID != 7 || string(note.sent[0].Payload) != "frame") {
			t.Error("the Link did not get the frame's message")
		}
		note.sent = nil
		var r releases
		send := func() error {
			p := []byte("owned")
			return s.SendOwned(p, r.one(p))
		}
		flushes = note.flushes.Load()
		if err := send(); err != nil || len(note.sent) != 1 || string(note.sent[0].Payload) != "owned" || note.sent[0].ID != 1 {
			t.Error(err, note.sent)
		}
		r.await(t)
		testkit.Eventually(t, func() bool { return note.flushes.Load() > flushes }, "a flush")
		note.err = errors.New("the link fails")
		if err := send(); sharing && !errors.Is(err, engine.ErrHandlerPanic) || !sharing && err != note.err {
			t.Error(err)
		}
		r.await(t)
		s.Close()
		<-note.ended
		if err := send(); !errors.Is(err, s.Err()) || s.SendFrame(frame) == nil {
			t.Error(err)
		}
		r.await(t)
	}
}
