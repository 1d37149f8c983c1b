package quicbridge

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/quic-go/quic-go"
)

// TestMemoryLimit: connections and read buffers count for engine.Config.MemoryLimit. Two peers
// that begin packets and do not finish them are paused, and the larger one is closed. Meanwhile
// new clients are refused, and a session that buffers little is served.
func TestMemoryLimit(t *testing.T) {
	const limit = 16 << 20
	srv := serve(t, engine.Config{Handler: echo, Cores: 1, MemoryLimit: limit, PartialTimeout: time.Hour}, Config{})
	empty := srv.Stats().Memory.Used
	s, id := open(t, raw(t, srv.addr, nil, ALPN)), uint32(0)
	askHonest := func() {
		id++
		send(t, s, request(t, id, "x"))
		expect(t, s, framing.Response, id, "x")
	}
	askHonest()
	if n := srv.Stats().Memory.Used - empty; n < connMemory || n > 4*connMemory {
		t.Errorf("an idle connection counts %d bytes", n)
	}
	first, second := raw(t, srv.addr, nil, ALPN), raw(t, srv.addr, nil, ALPN)
	for range 12 {
		send(t, open(t, first), begun(600<<10, 1<<20))
	}
	var refusal *quic.TransportError
	eventually(t, "a new client to be refused", func() bool {
		q, err := quic.DialAddr(t.Context(), srv.addr, trust(t, ALPN), nil)
		if err == nil {
			_ = q.CloseWithError(0, "")
		}
		return errors.As(err, &refusal)
	})
	if n := srv.Stats().Refused["memory_limit"]; n == 0 || refusal.ErrorCode != quic.ConnectionRefused {
		t.Errorf("%d are counted, refused with %v", n, refusal)
	}
	done := make(chan struct{})
	go func() { // it cannot be read to the end
		defer close(done)
		for range 8 {
			s, err := second.OpenStream()
			if err == nil {
				_, err = s.Write(begun(600<<10, 1<<20))
			}
			if err != nil {
				return
			}
		}
	}()
	eventually(t, "both to be paused", func() bool {
		askHonest()
		return srv.Stats().Memory.Paused >= 2
	})
	used := srv.Stats().Memory.Used
	load := &loader{}
	if _, err := srv.Listen("127.0.0.1:0", load); err != nil {
		t.Fatal(err)
	}
	load.host.AccountMemory(limit - int(used) + 1<<20)
	eventually(t, "the larger one to be closed", func() bool {
		askHonest()
		return srv.Stats().Closed["memory_limit"] == 1
	})
	load.host.AccountMemory(int(used) - limit - 1<<20)
	var end *quic.ApplicationError
	if _, err := first.AcceptStream(t.Context()); !errors.As(err, &end) || end.ErrorCode != CodeSlowConsumer {
		t.Error("the larger one ended with ", err)
	}
	_ = second.CloseWithError(0, "")
	<-done
	askHonest()
	eventually(t, "the memory to be uncounted", func() bool { return srv.Stats().Memory.Used < empty+4*connMemory })
}

// TestMemoryOfAWindow: the data that quic-go keeps for a paused session is estimated.
func TestMemoryOfAWindow(t *testing.T) {
	srv := serve(t, engine.Config{Handler: echo}, Config{})
	s := open(t, raw(t, srv.addr, nil, ALPN))
	send(t, s, request(t, 1, "x"))
	expect(t, s, framing.Response, 1, "x")
	before := srv.Stats().Memory.Used
	for session := range srv.Sessions() {
		session.Pause()
	}
	send(t, s, request(t, 2, "x"))
	eventually(t, "the window to be counted", func() bool { return srv.Stats().Memory.Used >= before+DefaultInitialWindow })
	for session := range srv.Sessions() {
		session.Resume()
	}
	expect(t, s, framing.Response, 2, "x")
	eventually(t, "it to be uncounted", func() bool { return srv.Stats().Memory.Used < before+DefaultInitialWindow })
}

// loader is a transport without connections, for its Host.
type loader struct {
	engine.Transport
	host *engine.Host
}

func (*loader) Name() string { return "loader" }

func (l *loader) Listen(host *engine.Host, _ string) (engine.Endpoint, error) {
	l.host = host
	return l, nil
}

func (*loader) Addr() net.Addr { return &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }
func (*loader) StopAccepting() {}
func (*loader) Close() error   { return nil }
