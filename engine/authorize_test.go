package engine_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// key is the key of a session's value in tests.
type key string

// countedFrom returns n packets whose IDs count up from first.
func countedFrom(first, n uint32) (b []byte) {
	for id := range n {
		b = append(b, packet(&framing.Message{ID: first + id})...)
	}
	return b
}

// TestAuthorizeComesBeforeOnOpen admits by an Authorizer that blocks. Messages that were
// sent meanwhile come after OnOpen, in their order, and the loop serves others.
func TestAuthorizeComesBeforeOnOpen(t *testing.T) {
	for name, protocol := range map[string]func() []engine.Protocol{
		"one protocol": func() []engine.Protocol { return []engine.Protocol{engine.Packets()} },
		"sniffed":      func() []engine.Protocol { return []engine.Protocol{hello{engine.Packets()}, engine.Packets()} },
		"TLS":          func() []engine.Protocol { return []engine.Protocol{overTLS(), engine.Packets()} },
	} {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				entered, gate := make(chan *engine.Handshake, 1), make(chan struct{})
				var messages atomic.Int64
				j := newJournal(inOrder(t, &messages))
				e, free := serve(t, engine.Config{Handler: echo, Dispatch: d, Cores: 1})
				l, err := e.ListenWith(engine.ListenConfig{Addr: "127.0.0.1:0", Handler: j,
					Authorize: func(_ context.Context, h *engine.Handshake) error {
						h.SetValue(key("user"), "ann")
						entered <- h
						<-gate
						return nil
					}}, protocol()...)
				if err != nil {
					t.Fatal(err)
				}
				addr := l.Addr().String()
				var c net.Conn = dial(t, addr)
				if name == "TLS" {
					c = dialTLS(t, addr, clientTLS(tls.VersionTLS13))
				}
				_, _ = c.Write(countedFrom(0, 3))
				h := <-entered
				if h.RemoteAddr.String() != c.LocalAddr().String() || h.Listener != l || (h.TLS != nil) != (name == "TLS") {
					t.Errorf("%+v", h)
				}
				_, _ = c.Write(countedFrom(3, 3))
				neighbor := dial(t, free)
				_, _ = neighbor.Write(ping)
				expect(t, neighbor, pong)
				if len(j.opened) > 0 || messages.Load() > 0 {
					t.Error("opened before it was admitted")
				}
				close(gate)
				s := j.session(t)
				waitFor(t, "the messages", func() bool { return messages.Load() == 6 })
				if s.Value(key("user")) != "ann" {
					t.Error("the value is gone")
				}
			})
		})
	}
}

// TestAuthorizeRefuses refuses sessions: they never open, and are counted.
func TestAuthorizeRefuses(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		for name, c := range map[string]struct {
			authorize engine.Authorizer
			reason    string
		}{
			"refusal":  {func(context.Context, *engine.Handshake) error { return &engine.Refusal{Status: 401} }, "unauthorized"},
			"error":    {func(context.Context, *engine.Handshake) error { return io.EOF }, "unauthorized"},
			"panic":    {func(context.Context, *engine.Handshake) error { panic("boom") }, "handler_panic"},
			"networks": {engine.AllowNetworks(netip.MustParsePrefix("10.0.0.0/8")), "unauthorized"},
			"of several": {engine.AuthorizeAll(engine.AllowNetworks(netip.MustParsePrefix("127.0.0.0/8")),
				func(context.Context, *engine.Handshake) error { return io.EOF }), "unauthorized"},
			"timeout": {func(ctx context.Context, _ *engine.Handshake) error { <-ctx.Done(); return nil }, "handshake_timeout"},
		} {
			t.Run(name, func(t *testing.T) {
				j := newJournal(nil)
				cfg := engine.Config{Handler: j, Dispatch: d, Cores: 1, Authorize: c.authorize}
				if name == "timeout" {
					cfg.HandshakeTimeout = 100 * time.Millisecond
				}
				e, addr := serve(t, cfg)
				conn := dial(t, addr)
				_, _ = conn.Write(ping)
				if n, err := conn.Read(make([]byte, 1)); n > 0 || err == nil {
					t.Errorf("%d bytes, %v", n, err)
				}
				_ = conn.Close()
				waitFor(t, "the refusal to be counted", func() bool { return e.Stats().Refused[c.reason] == 1 })
				waitFor(t, "the end", func() bool { return e.Stats().Active == 0 })
				if len(j.opened) > 0 || len(j.reasons) > 0 {
					t.Error("the handler has seen it")
				}
			})
		}
	})
}

// TestAuthorizeCountsAsHandshake: a session whose peer is gone still counts against
// MaxHandshakes while its Authorizer runs.
func TestAuthorizeCountsAsHandshake(t *testing.T) {
	gate := make(chan struct{})
	var calls atomic.Int64
	e, addr := serve(t, engine.Config{Handler: echo, Cores: 1, MaxHandshakes: 1, HandshakeTimeout: 50 * time.Millisecond,
		Authorize: func(context.Context, *engine.Handshake) error {
			if calls.Add(1) == 1 {
				<-gate
			}
			return nil
		}})
	first := dial(t, addr)
	_, _ = first.Read(make([]byte, 1)) // it ends by the timeout
	_ = first.Close()
	waitFor(t, "the session to be gone", func() bool { return e.Stats().Active == 0 })
	second := dial(t, addr)
	_, _ = second.Write(ping)
	if n, err := second.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Error("admitted")
	}
	close(gate)
	waitFor(t, "a session to be admitted", func() bool {
		c := dial(t, addr)
		_, _ = c.Write(ping)
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, _ := c.Read(make([]byte, 100))
		return n > 0
	})
	if n := e.Stats().Refused["max_handshakes"]; n == 0 {
		t.Error("not counted")
	}
}

// TestAuthorizeByFirstMessage authenticates packets by their first messages, which the
// handler does not get.
func TestAuthorizeByFirstMessage(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		var messages atomic.Int64
		j := newJournal(inOrder(t, &messages))
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1, Authorize: func(ctx context.Context, h *engine.Handshake) error {
			for _, want := range []string{"ann", "secret"} {
				if m, err := h.First(ctx); err != nil || string(m.Payload) != want {
					return errors.Join(errors.New("no "+want), err)
				}
			}
			return nil
		}})
		token := func(text string) []byte { return packet(&framing.Message{Payload: []byte(text)}) }
		c := dial(t, addr)
		_, _ = c.Write(append(token("ann"), token("secret")[:5]...))
		time.Sleep(5 * time.Millisecond) // so that they are read apart
		_, _ = c.Write(append(token("secret")[5:], countedFrom(0, 3)...))
		j.session(t)
		waitFor(t, "the messages", func() bool { return messages.Load() == 3 })
		for _, wrong := range [][]byte{append(token("ann"), token("wrong")...), []byte("xxxxxxxxxxxxxxxxxxxx")} {
			c = dial(t, addr)
			_, _ = c.Write(wrong)
			if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
				t.Errorf("%q: %d bytes, %v", wrong, n, err)
			}
			_ = c.Close()
		}
		waitFor(t, "the refusals", func() bool { return e.Stats().Refused["unauthorized"]+e.Stats().Refused["protocol_error"] == 2 })
		if len(j.opened) > 0 {
			t.Error("opened")
		}
	})
}

// TestFirstNeedsAProtocolWithoutHandshake asks for the first message of others.
func TestFirstNeedsAProtocolWithoutHandshake(t *testing.T) {
	failed := make(chan error, 2)
	f := &fake{}
	e, addr := serve(t, engine.Config{Handler: echo, Authorize: func(ctx context.Context, h *engine.Handshake) error {
		_, err := h.First(ctx)
		failed <- err
		return nil
	}}, authorizing{hello{engine.Packets()}}, f)
	c := dial(t, addr)
	_, _ = c.Write([]byte("hello"))
	if err := <-failed; !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	f.open(t)
	if err := <-failed; !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	_ = e
}

// authorizing is a protocol whose codec asks for authorization when the hello is there.
type authorizing struct{ hello }

func (p authorizing) Accept(c *engine.Control) engine.Codec {
	return &authorizingCodec{p.hello.Accept(c)}
}

type authorizingCodec struct{ engine.Codec }

func (c *authorizingCodec) NeedsHandshake() bool { return c.Codec.(engine.Handshaker).NeedsHandshake() }

func (c *authorizingCodec) Decode(ctl *engine.Control, b []byte, seen int, m *framing.Message) (int, bool, error) {
	ctl.SetValue(key("greeting"), string(b[:min(len(b), 5)]))
	if len(b) >= 5 && !ctl.Authorize() {
		return 0, false, nil
	}
	return c.Codec.Decode(ctl, b, seen, m)
}

// TestCodecAuthorizes: the codec's answer waits for the Authorizer, which sees what the
// codec has stored; after OnOpen that is gone.
func TestCodecAuthorizes(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		gate, seen := make(chan struct{}), make(chan any, 2)
		j := newJournal(nil)
		open := j.Open
		j.Open = func(s *engine.Session) { seen <- s.Value(key("greeting")); open(s) }
		_, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Authorize: func(_ context.Context, h *engine.Handshake) error {
			seen <- h.Value(key("greeting"))
			<-gate
			return nil
		}}, authorizing{hello{engine.Packets()}})
		c := dial(t, addr)
		_, _ = c.Write([]byte("hello"))
		if v := <-seen; v != "hello" {
			t.Error(v)
		}
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if n, _ := c.Read(make([]byte, 1)); n > 0 {
			t.Error("the answer came before the decision")
		}
		_ = c.SetReadDeadline(time.Time{})
		close(gate)
		expect(t, c, []byte("welcome"))
		if v := <-seen; v != "hello" {
			t.Error(v)
		}
		s := j.session(t)
		waitFor(t, "the value to be dropped", func() bool { return s.Value(key("greeting")) == nil })
	})
}

// TestAuthorizeLinks authorizes a Transport's sessions on its goroutine.
func TestAuthorizeLinks(t *testing.T) {
	f := &fake{}
	j := newJournal(nil)
	refuse := errors.New("no")
	var verdict error
	e, _ := serve(t, engine.Config{Handler: j, MaxSessions: 1, Authorize: func(_ context.Context, h *engine.Handshake) error {
		h.SetValue(key("from"), h.Transport)
		return verdict
	}}, f)
	verdict = refuse
	l := &fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}
	if _, err := f.host.Open(l, engine.OpenInfo{}); !errors.Is(err, engine.ErrUnauthorized) || !errors.Is(err, refuse) {
		t.Error(err)
	}
	if n := e.Stats().Refused["unauthorized"]; n != 1 {
		t.Errorf("%d are counted", n)
	}
	verdict = nil
	f.open(t)
	if s := j.session(t); s.Value(key("from")) != "fake" {
		t.Error("the value is gone")
	}
}

// TestRefusalText: the reason is for the peer, the cause only for this side.
func TestRefusalText(t *testing.T) {
	r := &engine.Refusal{Status: 401, Reason: "no token", Err: io.ErrUnexpectedEOF}
	if !errors.Is(r, engine.ErrUnauthorized) || !errors.Is(r, engine.ErrRefused) || !errors.Is(r, io.ErrUnexpectedEOF) {
		t.Error("it is none of its causes")
	}
	if s := r.Error(); !strings.Contains(s, "no token") || !strings.Contains(s, "unexpected EOF") {
		t.Error(s)
	}
}

// TestPanicAfterAwait: a codec that panics when its Await has ended ends its own session only.
func TestPanicAfterAwait(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		var calls atomic.Int64
		p := &scripted{accept: func(c *engine.Control) engine.Codec {
			c.Await(func(context.Context) error { return nil })
			return &scriptedCodec{Codec: engine.Packets().Accept(c), needs: func() bool {
				if calls.Add(1) > 1 {
					panic("boom")
				}
				return true
			}}
		}}
		e, addr, neighbor := withNeighbor(t, engine.Config{Handler: echo, Dispatch: d}, p)
		c := dial(t, addr)
		_, _ = c.Write(ping)
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = c.Close()
		waitFor(t, "the panic to be counted", func() bool { return e.Stats().Panics == 1 })
		harmless(t, e, neighbor)
	})
}
