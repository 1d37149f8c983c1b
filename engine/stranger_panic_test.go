package engine_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// explosive is a framing by lines that panics for some of them.
type explosive struct{ framing.Line }

func (f explosive) Decode(b []byte, seen, limit int, m *framing.Message) (int, error) {
	n, err := f.Line.Decode(b, seen, limit, m)
	if n > 0 && string(m.Payload) == "decode" {
		panic("decode")
	}
	return n, err
}

func (f explosive) Append(dst []byte, m *framing.Message) ([]byte, error) {
	if string(m.Payload) == "append" {
		panic("append")
	}
	return f.Line.Append(dst, m)
}

// harmless checks that a session of another listener on the same core is served,
// and that the engine can be closed.
func harmless(t *testing.T, e *engine.Engine, neighbor net.Conn) {
	t.Helper()
	_, _ = neighbor.Write(ping)
	expect(t, neighbor, pong)
	within(t, 10*time.Second, "Close", func() { _ = e.Close() })
}

// withNeighbor serves protocols and, on another address of the same core, packets,
// where it returns a connection.
func withNeighbor(t *testing.T, cfg engine.Config, protocols ...engine.Protocol) (e *engine.Engine, addr string, neighbor net.Conn) {
	t.Helper()
	cfg.Cores = 1
	e, addr = serve(t, cfg, protocols...)
	l, err := e.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		t.Fatal(err)
	}
	neighbor = dial(t, l.Addr().String())
	_, _ = neighbor.Write(ping)
	expect(t, neighbor, pong)
	return e, addr, neighbor
}

// TestHazard31PanicInAFramer replies in every way that there is to a line that
// panics when it is decoded or encoded.
func TestHazard31PanicInAFramer(t *testing.T) {
	replies := map[string]func(s *engine.Session, m *framing.Message) error{
		"Reply":   func(s *engine.Session, m *framing.Message) error { return s.Reply(m, m.Payload) },
		"Send":    func(s *engine.Session, m *framing.Message) error { return s.Send(m.Payload) },
		"another": func(s *engine.Session, m *framing.Message) error { return sendElsewhere(s, m.Clone()) },
	}
	for name, reply := range replies {
		for _, lines := range []string{"append\n", "one\nappend\ntwo\n", "one\nappend\nappend\n", "one\ndecode\ntwo\n"} {
			t.Run(name, func(t *testing.T) {
				eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
					var calls, returns atomic.Int32
					j := newJournal(func(s *engine.Session, m *framing.Message) {
						if string(m.Payload) == "ping" {
							_ = s.Reply(m, m.Payload) // the neighbor's
							return
						}
						var p *engine.PanicError
						calls.Add(1)
						if err := reply(s, m); string(m.Payload) == "append" && !errors.As(err, &p) {
							t.Errorf("the sender gets %v", err)
						}
						returns.Add(1)
					})
					e, addr, neighbor := withNeighbor(t, engine.Config{Handler: j, Dispatch: d}, engine.Framed(explosive{}))
					c := dial(t, addr)
					_, _ = c.Write([]byte(lines))
					if _, err := io.ReadAll(c); err != nil {
						t.Error(err)
					}
					_ = c.Close()
					if err := j.reason(t); !errors.Is(err, engine.ErrHandlerPanic) {
						t.Error(err)
					}
					waitFor(t, "the count", func() bool { return e.Stats().Panics > 0 })
					if n := e.Stats().Panics; n != 1 {
						t.Errorf("%d panics behind %q", n, lines)
					}
					if calls.Load() != returns.Load() {
						t.Error("the codec's panic reached the handler")
					}
					harmless(t, e, neighbor)
				})
			})
		}
	}
}

// sendElsewhere sends on another goroutine, and waits for it.
func sendElsewhere(s *engine.Session, m *framing.Message) error {
	err := make(chan error)
	go func() { err <- s.Send(m.Payload) }()
	return <-err
}

type panicCase struct {
	protocol scripted
	cfg      engine.Config
	others   []engine.Protocol // in front of it
	input    string            // that the client writes
	open     bool              // the session opens
}

func panicCases() map[string]panicCase {
	boom := func() { panic("boom") }
	accept := scripted{accept: func(*engine.Control) engine.Codec { boom(); return nil }}
	none := scripted{accept: func(*engine.Control) engine.Codec { return nil }}
	needs := scripted{codec: scriptedCodec{needs: func() bool { boom(); return true }}}
	match := scripted{match: func([]byte) engine.Match { boom(); return engine.MatchYes }}
	farewell := func(dst []byte, _ error) []byte { boom(); return dst }
	waits := scripted{codec: scriptedCodec{goodbye: farewell, greeting: greets("hello", func(*engine.Control) {})}}
	open := scripted{codec: scriptedCodec{goodbye: farewell}}
	decode := scripted{codec: scriptedCodec{greeting: func(*engine.Control, []byte) (int, error) { boom(); return 0, nil }}}
	reach := scripted{codec: scriptedCodec{greeting: func(*engine.Control, []byte) (int, error) { return 1 << 20, nil }}}
	other := []engine.Protocol{hello{engine.Packets()}}
	soon := engine.Config{HandshakeTimeout: 100 * time.Millisecond, SniffTimeout: 100 * time.Millisecond}
	return map[string]panicCase{
		"Accept":                       {protocol: accept},
		"Accept, sniffed":              {protocol: accept, others: other, input: "x"},
		"Accept behind a header":       {protocol: accept, others: []engine.Protocol{trustLoopback}, input: string(proxyV1Line)},
		"Accept of a silent session":   {protocol: accept, others: []engine.Protocol{overTLS()}, cfg: soon},
		"Accept without a codec":       {protocol: none},
		"NeedsHandshake":               {protocol: needs},
		"NeedsHandshake, sniffed":      {protocol: needs, others: other, input: "x"},
		"Match":                        {protocol: match, others: other, input: "x"},
		"Decode in the handshake":      {protocol: decode, input: "x"},
		"Decode takes more than it is": {protocol: reach, input: "x"},
		"Goodbye in the handshake":     {protocol: waits, cfg: soon, input: "x"},
		"Goodbye":                      {protocol: open, input: string(packet(&framing.Message{Payload: []byte("close")})), open: true},
		"Goodbye at a wrong byte":      {protocol: open, input: "xxxxxxxxxxxxxxxxx", open: true},
	}
}

// TestHazard31PanicInAProtocol panics in each method of a protocol and its codec.
func TestHazard31PanicInAProtocol(t *testing.T) {
	for name, c := range panicCases() {
		t.Run(name, func(t *testing.T) {
			eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
				closed := make(chan struct{}, 10)
				cfg := c.cfg
				cfg.Dispatch = d
				cfg.Handler = engine.HandlerFuncs{Message: func(s *engine.Session, m *framing.Message) {
					if string(m.Payload) == "close" {
						s.Close()
						return
					}
					_ = s.Reply(m, m.Payload)
				}, Close: func(s *engine.Session, _ error) {
					if s.Transport() == "scripted" {
						closed <- struct{}{}
					}
				}}
				p := c.protocol
				e, addr, neighbor := withNeighbor(t, cfg, append(c.others, &p)...)
				conn := dial(t, addr)
				_, _ = conn.Write([]byte(c.input))
				_, _ = io.ReadAll(conn)
				_ = conn.Close()
				waitFor(t, "the end", func() bool { return e.Stats().Panics == 1 && e.Stats().Active == 1 })
				if len(closed) > 0 != c.open {
					t.Errorf("%d calls of OnClose", len(closed))
				}
				harmless(t, e, neighbor)
			})
		})
	}
}

// TestHazard31PanicBehindTLS panics in Accept when the TLS handshake is done.
func TestHazard31PanicBehindTLS(t *testing.T) {
	p := &scripted{accept: func(*engine.Control) engine.Codec { panic("boom") }}
	e, addr, neighbor := withNeighbor(t, engine.Config{Handler: echo}, overTLS(), p)
	c := dialTLS(t, addr, clientTLS(0))
	if b, err := io.ReadAll(c); len(b) > 0 || err != nil {
		t.Error(b, err)
	}
	_ = c.Close()
	waitFor(t, "the end", func() bool { return e.Stats().Panics == 1 && e.Stats().Active == 1 })
	harmless(t, e, neighbor)
}

// TestHazard31PanicInARefusal panics in the Goodbye that refuses a peer.
func TestHazard31PanicInARefusal(t *testing.T) {
	p := &scripted{codec: scriptedCodec{goodbye: func([]byte, error) []byte { panic("boom") }}}
	e, addr, neighbor := withNeighbor(t, engine.Config{Handler: echo, MaxSessions: 1}, hello{engine.Packets()}, p)
	c := dial(t, addr)
	_, _ = c.Write([]byte("x"))
	_, _ = io.ReadAll(c)
	_ = c.Close()
	waitFor(t, "the end", func() bool { return e.Stats().Panics == 1 && e.Stats().Active == 1 })
	harmless(t, e, neighbor)
}

// TestHazard31PanicOfADialedProtocol panics in Connect, and in the codec that it
// returns.
func TestHazard31PanicOfADialedProtocol(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(reply)
		e, addr, neighbor := withNeighbor(t, engine.Config{Handler: j, Dispatch: d}, engine.Framed(framing.Line{}))
		j.session(t) // the neighbor's
		bad := &scripted{connect: func(net.Conn) (engine.Codec, []byte, error) { panic("boom") }}
		if _, err := e.Dial(context.Background(), addr, bad); !errors.Is(err, engine.ErrHandlerPanic) {
			t.Error(err)
		}
		for _, rest := range [][]byte{nil, []byte("decode\n")} {
			worse := &scripted{connect: func(net.Conn) (engine.Codec, []byte, error) {
				return engine.Framed(explosive{}).Accept(nil), bytes.Clone(rest), nil
			}}
			s, err := e.Dial(context.Background(), addr, worse)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send([]byte("append")); !errors.Is(err, engine.ErrHandlerPanic) {
				t.Error(err)
			}
			waitFor(t, "the end", func() bool { return e.Session(s.ID()) == nil })
		}
		harmless(t, e, neighbor)
	})
}
