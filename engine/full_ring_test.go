package engine_test

import (
	"crypto/tls"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// fullRing is a core whose worker waits in a handler, and whose ring has no space left.
type fullRing struct {
	engine  *engine.Engine
	log     *callbackLog
	entered chan struct{} // closed when the handler waits
	gate    chan struct{}
	once    sync.Once
	fake    *fake
	filler  *fakeLink
	opening sync.WaitGroup
}

// newFullRing serves protocols by one core in Workers dispatch; fill fills its ring.
func newFullRing(t *testing.T, protocols ...engine.Protocol) (*fullRing, string) {
	t.Helper()
	r := &fullRing{entered: make(chan struct{}), gate: make(chan struct{}), fake: &fake{}}
	var first sync.Once
	r.log = &callbackLog{fake: func(*engine.Session, *framing.Message) {
		first.Do(func() { close(r.entered) })
		<-r.gate
	}}
	var addr string
	r.engine, addr = serve(t, engine.Config{Handler: r.log, Cores: 1, RingSize: 64 << 10}, protocols...)
	t.Cleanup(func() { r.open(); r.opening.Wait() })
	if _, err := r.engine.Listen("127.0.0.1:1", r.fake); err != nil {
		t.Fatal(err)
	}
	r.filler = r.fake.open(t)
	return r, addr
}

// fill makes the handler wait and fills the ring to the last record: sessions of fake that
// find no space for OnOpen wait outside of the loop.
func (r *fullRing) fill(t *testing.T) {
	t.Helper()
	_ = r.filler.port.Deliver(&framing.Message{})
	<-r.entered
	r.filler.fill()
	const smallest = 16 // bytes that a record takes
	waitFor(t, "a full ring", func() bool {
		r.opening.Go(func() {
			l := &fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}
			p, err := r.fake.host.Open(l, engine.OpenInfo{Remote: netip.MustParseAddrPort("127.0.0.1:9")})
			if err != nil {
				return
			}
			l.port, l.session = p, p.Session()
			close(l.opened)
		})
		return r.engine.Stats().Cores[0].RingDepth > 64<<10-smallest
	})
}

// open lets the handler go on.
func (r *fullRing) open() { r.once.Do(func() { close(r.gate) }) }

// drain lets the handler go on and waits until the ring has space.
func (r *fullRing) drain(t *testing.T) {
	r.open()
	waitFor(t, "space in the ring", r.hasSpace)
}

func (r *fullRing) hasSpace() bool { return r.engine.Stats().Cores[0].RingDepth < 32<<10 }

// decodesWhenThereIsRoom is a Decode that, if the ring is full, lets it drain before it
// returns its first message: so OnOpen, if it is still to come, would find the message in
// front of it.
func (r *fullRing) decodesWhenThereIsRoom(t *testing.T) decodeFunc {
	var once sync.Once
	return func(next engine.Codec, ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
		once.Do(func() {
			if !r.hasSpace() {
				r.drain(t)
			}
		})
		return next.Decode(ctl, b, seen, m)
	}
}

// expectOrder waits for OnOpen and three messages, and checks their order.
func (r *fullRing) expectOrder(t *testing.T) {
	t.Helper()
	want := []string{"open", "ping", "ping", "ping"}
	waitFor(t, "the messages", func() bool { return len(r.log.all()) >= len(want) })
	if got := r.log.all(); !slices.Equal(got, want) {
		t.Error(got)
	}
}

// TestHazard28OnOpenComesFirstInOneRead opens sessions while the ring has no space for
// OnOpen. The read that opens them contains messages, too, and the ring drains before
// they are decoded.
func TestHazard28OnOpenComesFirstInOneRead(t *testing.T) {
	greeting := greets("hello", func(*engine.Control) {})
	stranger := &scripted{match: func([]byte) engine.Match { return engine.MatchNo }}
	for name, c := range map[string]struct {
		greeting func(*engine.Control, []byte) (int, error)
		others   []engine.Protocol
		secure   bool
		input    []byte
	}{
		"handshake":           {greeting: greeting, input: []byte("hello")},
		"sniffing":            {others: []engine.Protocol{stranger}},
		"sniffing, handshake": {greeting: greeting, others: []engine.Protocol{stranger}, input: []byte("hello")},
		"PROXY header":        {others: []engine.Protocol{trustLoopback}, input: proxyV1Line},
		"TLS":                 {others: []engine.Protocol{overTLS()}, secure: true},
		"TLS, sniffing":       {others: []engine.Protocol{overTLS(), stranger}, secure: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := &scripted{codec: scriptedCodec{greeting: c.greeting}}
			r, addr := newFullRing(t, append(c.others, p)...)
			p.codec.decode = r.decodesWhenThereIsRoom(t)
			turns := make(chan struct{}, 1)
			probe, err := r.engine.Listen("127.0.0.1:0", &scripted{accept: func(ctl *engine.Control) engine.Codec {
				turns <- struct{}{}
				return &scriptedCodec{Codec: engine.Packets().Accept(ctl), needs: func() bool { return true }}
			}})
			if err != nil {
				t.Fatal(err)
			}
			r.fill(t)
			var conn net.Conn = dial(t, addr)
			if c.secure {
				conn = tls.Client(conn, clientTLS(tls.VersionTLS13))
			}
			if _, err := conn.Write(slices.Concat(c.input, ping, ping, ping)); err != nil {
				t.Fatal(err)
			}
			waitFor(t, "a stall", func() bool { return r.engine.Stats().Cores[0].Stalls > 0 })
			dial(t, probe.Addr().String())
			<-turns // the loop is done with the read
			r.open()
			r.expectOrder(t)
		})
	}
}

// TestHazard28OnOpenComesFirstWhenDialed is the same for messages that the peer
// sent together with its part of the handshake.
func TestHazard28OnOpenComesFirstWhenDialed(t *testing.T) {
	quiet, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = quiet.Close() }()
	p := &scripted{}
	r, _ := newFullRing(t)
	p.codec.decode = r.decodesWhenThereIsRoom(t)
	p.connect = func(net.Conn) (engine.Codec, []byte, error) {
		return p.newCodec(), slices.Concat(ping, ping, ping), nil
	}
	r.fill(t)
	if _, err := r.engine.Dial(t.Context(), quiet.Addr().String(), p); err != nil {
		t.Fatal(err)
	}
	r.open()
	r.expectOrder(t)
}
