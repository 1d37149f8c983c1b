package engine_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

func TestHazard10SlowHandlerOverTLSLosesNothing(t *testing.T) {
	for name, version := range tlsVersions {
		t.Run(name, func(t *testing.T) {
			gate := make(chan struct{})
			var count atomic.Int64
			h := occupied(gate, inOrder(t, &count))
			e, addr := serve(t, engine.Config{Handler: h, Cores: 1, RingSize: 64 << 10, MaxMessageSize: 64 << 10}, overTLS(), engine.Packets())
			occupy(t, e, addr)
			c := dialTLS(t, addr, clientTLS(version))
			const n = 3000
			sent := make(chan error, 1)
			go func() {
				_, err := c.Write(numbered(n, 10_000))
				if err == nil {
					err = c.Close() // close_notify after bytes that are still held back
				}
				sent <- err
			}()
			waitFor(t, "a stall", func() bool { return e.Stats().Cores[0].Stalls > 0 })
			time.Sleep(50 * time.Millisecond)
			if in := e.Stats().BytesIn; in > 2*(64<<10)+4*engine.DefaultReadBufferSize {
				t.Errorf("read %d bytes for a handler that takes none", in)
			}
			close(gate)
			if err := <-sent; err != nil {
				t.Fatal(err)
			}
			waitFor(t, "all messages", func() bool { return count.Load() == n })
		})
	}
}

func TestTLSPauseAndResume(t *testing.T) {
	eachTLS(t, func(t *testing.T, d engine.Dispatch, version uint16) {
		var count atomic.Int64
		check := inOrder(t, &count)
		session := make(chan *engine.Session, 1)
		h := engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
			if m.ID%1000 == 0 {
				s.Pause()
				session <- s
			}
			check(s, m)
		})
		_, addr := serve(t, engine.Config{Handler: h, Dispatch: d, Cores: 1, RingSize: 64 << 10}, overTLS(), engine.Packets())
		c := dialTLS(t, addr, clientTLS(version))
		const n = 4000
		go func() { _, _ = c.Write(numbered(n, 1000)) }()
		for range n / 1000 {
			s := <-session
			time.Sleep(10 * time.Millisecond)
			s.Resume()
		}
		waitFor(t, "all messages", func() bool { return count.Load() == n })
	})
}

func TestHazard10SlowConsumerOverTLS(t *testing.T) {
	for name, policy := range map[string]engine.SlowConsumerPolicy{"close": engine.SlowConsumerClose, "newest": engine.SlowConsumerDropNewest, "oldest": engine.SlowConsumerDropOldest} {
		t.Run(name, func(t *testing.T) {
			j := newJournal(nil)
			e, addr := serve(t, engine.Config{Handler: j, OutboxLimit: 1 << 20, SlowConsumer: policy}, overTLS(), engine.Packets())
			c := dialTLS(t, addr, clientTLS(tls.VersionTLS13))
			s := j.session(t)
			const n, size = 3000, 10_000
			var err error
			for i := range n {
				if err = s.SendMessage(&framing.Message{ID: uint32(i), Payload: make([]byte, size)}); err == engine.ErrSlowConsumer {
					break
				}
			}
			if policy == engine.SlowConsumerClose {
				if !errors.Is(err, engine.ErrSlowConsumer) || !errors.Is(j.reason(t), engine.ErrSlowConsumer) {
					t.Fatal(err)
				}
				return
			}
			dropped := int(e.Stats().DroppedMessages)
			if dropped == 0 {
				t.Fatal("nothing was dropped")
			}
			// The remaining messages arrive complete and in order.
			last := -1
			for range n - dropped {
				b := make([]byte, size+framing.PacketHeaderSize)
				for have := 0; have < len(b); {
					k, err := c.Read(b[have:])
					if err != nil {
						t.Fatal(err)
					}
					have += k
				}
				var m framing.Message
				if k, err := (framing.Packet{}).Decode(b, 0, 1<<20, &m); k != len(b) || err != nil || int(m.ID) <= last {
					t.Fatal(k, err, m.ID, last)
				}
				last = int(m.ID)
			}
			if policy == engine.SlowConsumerDropOldest && last != n-1 {
				t.Error("the last message is missing, the newest is ", last)
			}
		})
	}
}

func TestTLSBehindAProxyHeader(t *testing.T) {
	for _, protocols := range [][]engine.Protocol{{engine.Packets()}, {hello{engine.Packets()}, engine.Packets()}} {
		j := newJournal(reply)
		trusted := engine.ProxyProtocol{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
		_, addr := serve(t, engine.Config{Handler: j}, append(protocols, trusted, overTLS())...)
		raw := dial(t, addr)
		_, _ = raw.Write([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n"))
		c := tls.Client(raw, clientTLS(tls.VersionTLS13))
		_, _ = c.Write(bytes.Repeat(ping, 10))
		expect(t, c, bytes.Repeat(pong, 10))
		if s := j.session(t); s.Transport() != "tls" || s.RemoteAddr().String() != "192.0.2.7:4711" {
			t.Error(s.Transport(), s.RemoteAddr())
		}
	}
}
