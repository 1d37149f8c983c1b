package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// serverSettings are the settings of a server child.
type serverSettings struct {
	Addr      string `json:"addr"`      // host:port; port 0 picks one
	Transport string `json:"transport"` // tcp, ws, tls or quic
	Inline    bool   `json:"inline"`    // dispatch on the loops
	Lean      bool   `json:"lean"`      // one core with the smallest buffers, and an eager collector

	// Zero values mean the engine's defaults.
	Cores        int           `json:"cores"`
	Handshake    time.Duration `json:"handshake"`     // engine.Config.HandshakeTimeout, and a second listener for WebSocket
	SocketBuffer int           `json:"socket_buffer"` // bytes that the system buffers a direction
}

// Of a lean server. Its heap is small and grows rarely, so frequent
// collections cost little.
const (
	leanRing       = 64 << 10 // bytes, the smallest ring
	leanReadBuffer = 16 << 10 // bytes
	leanGCPercent  = 25
)

const wsPath = "/ws"

// A server is a child's engine.
type server struct {
	engine    *engine.Engine
	broadcast *broadcaster
}

// serverReady is the ready message of a server child.
type serverReady struct {
	Addr      string `json:"addr"`
	Handshake string `json:"handshake,omitempty"` // of the second listener
}

func serverRole(raw json.RawMessage) (_ any, actions map[string]action, end func(), err error) {
	var set serverSettings
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, nil, nil, err
	}
	cfg := engine.Config{
		Cores: set.Cores, HandshakeTimeout: set.Handshake,
		Socket: engine.SocketOptions{ReadBuffer: set.SocketBuffer, WriteBuffer: set.SocketBuffer},
	}
	if set.Inline {
		cfg.Dispatch = engine.Inline
	}
	if set.Lean {
		debug.SetGCPercent(leanGCPercent)
		cfg.Cores, cfg.RingSize, cfg.ReadBufferSize = 1, leanRing, leanReadBuffer
	}
	s := &server{broadcast: &broadcaster{}}
	cfg.Handler = s.broadcast
	s.engine = engine.New(cfg)
	s.broadcast.engine = s.engine
	protocols, err := protocolsOf(set.Transport)
	if err != nil {
		return nil, nil, nil, err
	}
	listener, err := s.engine.Listen(set.Addr, protocols...)
	if err != nil {
		return nil, nil, nil, err
	}
	ready := serverReady{Addr: listener.Addr().String()}
	if set.Handshake > 0 {
		second, err := s.engine.Listen(set.Addr, wsupgrade.Path(wsPath))
		if err != nil {
			return nil, nil, nil, err
		}
		ready.Handshake = second.Addr().String()
	}
	if err := s.engine.Start(); err != nil {
		return nil, nil, nil, err
	}
	actions = map[string]action{
		"memory":    act(s.memory),
		"await":     act(s.await),
		"stats":     act(s.stats),
		"cores":     act(s.cores),
		"broadcast": act(s.broadcast.run),
	}
	end = func() {
		if err := s.engine.Close(); err != nil {
			fmt.Fprintln(os.Stderr, "scenario: closing the server:", err)
		}
	}
	return ready, actions, end, nil
}

// protocolsOf returns the protocols of a listener for that transport alone.
func protocolsOf(transport string) ([]engine.Protocol, error) {
	switch transport {
	case "tcp":
		return []engine.Protocol{engine.Packets()}, nil
	case "ws":
		return []engine.Protocol{wsupgrade.Path(wsPath)}, nil
	case "tls":
		return []engine.Protocol{engine.TLS(engine.TLSConfig{SelfSigned: true, Required: true}), engine.Packets()}, nil
	case "quic":
		return []engine.Protocol{quicbridge.QUIC()}, nil
	default:
		return nil, fmt.Errorf("no transport %q", transport)
	}
}

// answerMessage echoes m: a Request as its Response, a OneWay as a OneWay.
func answerMessage(s *engine.Session, m *framing.Message) {
	if m.Type != framing.Response {
		s.Reply(m, m.Payload)
	}
}

// memoryArgs select whether to collect garbage before measuring.
type memoryArgs struct {
	Collect bool `json:"collect"`
}

// memoryFigures are a server's own view of its memory, in bytes.
type memoryFigures struct {
	Heap    int64     `json:"heap"`    // live objects, after a collection
	Stacks  int64     `json:"stacks"`  // of goroutines
	Objects int64     `json:"objects"` // on the heap
	Process footprint `json:"process"`
}

// collections is how often garbage is collected before measuring: objects with a
// finalizer and the contents of pools are freed by the second collection.
const collections = 3

func (s *server) memory(_ context.Context, args memoryArgs) (any, error) {
	if args.Collect {
		for range collections {
			runtime.GC()
		}
		debug.FreeOSMemory()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	process, err := processMemory(os.Getpid())
	return memoryFigures{
		Heap: int64(m.HeapAlloc), Stacks: int64(m.StackInuse), Objects: int64(m.HeapObjects), Process: process,
	}, err
}

// serverStats are the engine's counters that scenarios look at.
type serverStats struct {
	Active  int64             `json:"active"`
	Closed  map[string]uint64 `json:"closed"` // by reason
	Dropped uint64            `json:"dropped"`
}

func (s *server) stats(context.Context, struct{}) (any, error) {
	st := s.engine.Stats()
	return serverStats{st.Active, st.Closed, st.DroppedMessages}, nil
}

// idCoreShift is the place of the core in an engine.ID.
const idCoreShift = 56

// cores counts the sessions of each core.
func (s *server) cores(context.Context, struct{}) (any, error) {
	counts := map[int]int{}
	for session := range s.engine.Sessions() {
		counts[int(session.ID()>>idCoreShift)]++
	}
	return counts, nil
}

// awaitArgs are the number of sessions to wait for.
type awaitArgs struct {
	Sessions int64         `json:"sessions"`
	Patience time.Duration `json:"patience"`
}

// await waits until the engine has exactly so many sessions.
func (s *server) await(ctx context.Context, args awaitArgs) (any, error) {
	for deadline := time.Now().Add(args.Patience); ; {
		active := s.engine.Stats().Active
		if active == args.Sessions {
			return active, nil
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return nil, fmt.Errorf("%d sessions, want %d after %v", active, args.Sessions, args.Patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// patience is how long sessions may take to be gone, or there.
const patience = 30 * time.Second

// awaitSessions waits until the server has n sessions.
func awaitSessions(ctx context.Context, c *child, n int) error {
	_, err := ask[int64](ctx, c, "await", awaitArgs{int64(n), patience})
	return err
}

// startServer starts a server child.
func startServer(ctx context.Context, name string, set serverSettings) (*child, netip.AddrPort, error) {
	c, addr, _, err := startTwo(ctx, name, set)
	return c, addr, err
}

// startTwo starts a server child, and returns the addresses of both its listeners. The
// second is invalid if the settings have none.
func startTwo(ctx context.Context, name string, set serverSettings) (c *child, addr, second netip.AddrPort, err error) {
	if set.Addr == "" {
		set.Addr = "127.0.0.1:0"
	}
	c, ready, err := startChild[serverReady](ctx, name, "server", set)
	if err != nil {
		return nil, addr, second, err
	}
	if addr, err = netip.ParseAddrPort(ready.Addr); err == nil && ready.Handshake != "" {
		second, err = netip.ParseAddrPort(ready.Handshake)
	}
	if err != nil {
		return nil, addr, second, errors.Join(err, c.stop())
	}
	return c, addr, second, nil
}
