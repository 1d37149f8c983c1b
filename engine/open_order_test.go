package engine_test

import (
	"crypto/tls"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// callbackLog is a Handler that notes the order of its callbacks, except those of
// the transport "fake".
type callbackLog struct {
	mu    sync.Mutex
	calls []string
	fake  func(*engine.Session, *framing.Message) // OnMessage of the others
}

func (l *callbackLog) note(s *engine.Session, call string) {
	if s.Transport() == "fake" {
		return
	}
	l.mu.Lock()
	l.calls = append(l.calls, call)
	l.mu.Unlock()
}

func (l *callbackLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.calls)
}

// lawful checks the callbacks of one session that has ended: from OnOpen to OnClose, or
// none at all; none is required if refused is set.
func (l *callbackLog) lawful(t *testing.T, refused bool) {
	t.Helper()
	calls := l.all()
	if len(calls) == 0 {
		return
	}
	last := len(calls) - 1
	if refused || slices.Index(calls, "open") != 0 || slices.Index(calls, "close") != last {
		t.Error("the handler was called: ", calls)
	}
}

func (l *callbackLog) OnOpen(s *engine.Session)           { l.note(s, "open") }
func (l *callbackLog) OnClose(s *engine.Session, _ error) { l.note(s, "close") }
func (l *callbackLog) OnMessage(s *engine.Session, m *framing.Message) {
	if s.Transport() == "fake" {
		l.fake(s, m)
		return
	}
	l.note(s, string(m.Payload))
}

// reset closes c such that its peer gets a reset.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	_ = c.Close()
}

// TestHazard27BrokenHandshakeDeliversNothing resets the connection while its codec answers
// the handshake, after which messages have come already. With Inline dispatch the answer
// is written after them, so the session may open.
func TestHazard27BrokenHandshakeDeliversNothing(t *testing.T) {
	for name, protocols := range map[string]func(p engine.Protocol) []engine.Protocol{
		"one protocol":      func(p engine.Protocol) []engine.Protocol { return []engine.Protocol{p} },
		"several protocols": func(p engine.Protocol) []engine.Protocol { return []engine.Protocol{engine.Packets(), p} },
	} {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				greeted, gone := make(chan struct{}), make(chan struct{})
				p := &scripted{codec: scriptedCodec{greeting: greets("hello", func(ctl *engine.Control) {
					close(greeted)
					<-gone
					_ = ctl.SendControl([]byte("welcome"))
					for d == engine.Workers && ctl.Session().Err() == nil { // until the reset is noticed
						_ = ctl.SendControl([]byte("welcome"))
					}
				})}}
				p.codec.decode = func(next engine.Codec, ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
					if d == engine.Workers {
						t.Error("the codec gets the bytes behind the handshake")
					}
					return next.Decode(ctl, b, seen, m)
				}
				log := &callbackLog{}
				e, addr := serve(t, engine.Config{Handler: log, Dispatch: d, Cores: 1}, protocols(p)...)
				c := dial(t, addr)
				_, _ = c.Write(slices.Concat([]byte("hello"), ping, ping, ping))
				<-greeted
				reset(c)
				close(gone)
				ends := func(st engine.Stats) uint64 { return st.Refused["connection_lost"] + st.Closed["connection_lost"] }
				waitFor(t, "the connection's end", func() bool { return ends(e.Stats()) == 1 && e.Stats().Active == 0 })
				log.lawful(t, d == engine.Workers)
			})
		})
	}
}

// countingConn counts the bytes that are written to it.
type countingConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

// TestHazard27BrokenTLSHandshakeDeliversNothing is the same for TLS 1.3, whose
// server sends session tickets at the end of the handshake if it asked for a
// certificate.
func TestHazard27BrokenTLSHandshakeDeliversNothing(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		for round := range 10 { // the loop may see the reset first
			protocols := []engine.Protocol{engine.Packets()}
			if round%2 == 1 {
				protocols = append(protocols, hello{engine.Packets()})
			}
			verify := make(chan struct{})
			secure := engine.TLS(engine.TLSConfig{CertPEM: testCert, KeyPEM: testKey, ClientAuth: tls.RequestClientCert, Config: &tls.Config{
				VerifyConnection: func(tls.ConnectionState) error { <-verify; return nil }}})
			log := &callbackLog{}
			e, addr := serve(t, engine.Config{Handler: log, Dispatch: d, Cores: 1}, append(protocols, secure)...)
			raw := dial(t, addr)
			counted := &countingConn{Conn: raw}
			cfg := clientTLS(tls.VersionTLS13)
			cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1) // so that it gets a ticket
			c := tls.Client(counted, cfg)
			if err := c.Handshake(); err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(slices.Concat(ping, ping, ping))
			waitFor(t, "all to be read", func() bool { return e.Stats().BytesIn == uint64(counted.written.Load()) })
			reset(raw)
			close(verify)
			waitFor(t, "the connection's end", func() bool { return e.Stats().Refused["connection_lost"] == 1 && e.Stats().Active == 0 })
			log.lawful(t, true)
		}
	})
}

// TestMessageBeforeEstablishIsRefused has a codec that returns a message though
// it said that it needs a handshake.
func TestMessageBeforeEstablishIsRefused(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		p := &scripted{codec: scriptedCodec{needs: func() bool { return true }}}
		log := &callbackLog{}
		e, addr := serve(t, engine.Config{Handler: log, Dispatch: d, Cores: 1}, p)
		c := dial(t, addr)
		_, _ = c.Write(slices.Concat(ping, ping))
		_ = c.CloseWrite()
		waitFor(t, "the connection's end", func() bool { return e.Stats().Refused["protocol_error"] == 1 && e.Stats().Active == 0 })
		log.lawful(t, true)
	})
}
