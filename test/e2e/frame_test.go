package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/gobwas/ws"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/quicbridge"
	"github.com/millrace/millrace/wsupgrade"
)

// club is a server on every transport, whose members a test sends frames to.
type club struct {
	*engine.Engine
	addr    string
	members chan *engine.Session
	reasons chan error
}

// openClub serves cfg. A peer becomes a member by its first message.
func openClub(t *testing.T, cfg engine.Config) *club {
	c := &club{members: make(chan *engine.Session, 100), reasons: make(chan error, 100)}
	cfg.Handler = engine.HandlerFuncs{
		Message: func(s *engine.Session, _ *engine.Message) { c.members <- s },
		Close:   func(_ *engine.Session, reason error) { c.reasons <- reason },
	}
	c.Engine, c.addr = serve.Start(t, cfg, engine.TLS(engine.TLSConfig{SelfSigned: true}), engine.Packets(),
		wsupgrade.New(wsupgrade.Config{Packets: []string{"/ws"}, Plain: []string{"/echo"}}), quicbridge.QUIC())
	return c
}

// join connects a foreign client over each transport, some of them with TLS.
func (c *club) join(t *testing.T) (peers []*peer, members []*engine.Session) {
	t.Helper()
	dials := []func(*testing.T, string) *peer{dialTLSPeer, dialWSSPeer}
	for _, d := range dialers {
		dials = append(dials, d.dial)
	}
	for _, dial := range dials {
		p := dial(t, c.addr)
		t.Cleanup(p.close)
		c.admit(t, p)
		peers = append(peers, p)
		members = append(members, testkit.Receive(t, c.members, p.transport))
	}
	return peers, members
}

// admit sends p's first message.
func (c *club) admit(t *testing.T, p *peer) {
	t.Helper()
	testkit.Write(t, p.w, p.pack(nil, serve.Packet(&framing.Message{})))
}

func dialTLSPeer(t *testing.T, addr string) *peer {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	return streamPeer("tls", conn, func() { _ = conn.Close() })
}

func dialWSSPeer(t *testing.T, addr string) *peer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	conn, _, _, err := ws.Dialer{TLSConfig: &tls.Config{InsecureSkipVerify: true}}.Dial(ctx, "wss://"+addr+"/ws")
	if err != nil {
		t.Fatal(err)
	}
	return webSocketPeer("wss", conn)
}

// numberedFrame is frame i of a sender. Its size and its bytes depend on both.
func numberedFrame(sender, i uint32) *engine.Frame {
	size := [...]int{8, 900, 3000, 40_000}[i%4]
	p := bytes.Repeat([]byte{byte(sender + i)}, size)
	binary.BigEndian.PutUint32(p, sender)
	binary.BigEndian.PutUint32(p[4:], i)
	return engine.NewFrame(&framing.Message{ID: i, BizType: uint8(sender), Payload: p})
}

// frame reads the next packet of p, which must be a numbered frame, and returns its
// numbers.
func (p *peer) frame() (sender, i uint32, err error) {
	b, err := p.next()
	if err != nil {
		return 0, 0, err
	}
	var m framing.Message
	if n, err := (framing.Packet{}).Decode(b, 0, len(b), &m); err != nil || n != len(b) {
		return 0, 0, fmt.Errorf("%d of %d bytes: %w", n, len(b), err)
	}
	sender, i = uint32(m.BizType), m.ID
	if want := numberedFrame(sender, i).Message(); !bytes.Equal(m.Payload, want.Payload) || m.Type != want.Type {
		return 0, 0, fmt.Errorf("frame %d of sender %d has other bytes", i, sender)
	}
	return sender, i, nil
}

// TestFramesOnEveryTransport: several goroutines send frames to the same sessions on all
// cores and transports, whose sockets take them in pieces, while other sessions that hold
// the same frames are aborted, or lose their peers. Each session gets the frames of a
// sender in their order.
func TestFramesOnEveryTransport(t *testing.T) {
	serve.EachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		const senders, frames = 3, 60
		c := openClub(t, engine.Config{Dispatch: d, Cores: 4, Socket: engine.SocketOptions{WriteBuffer: 16 << 10}})
		peers, members := c.join(t)
		more, others := c.join(t)
		peers, members = append(peers, more...), append(members, others...)
		_, aborted := c.join(t) // they do not read
		left, lost := c.join(t)
		all := append(append(append([]*engine.Session(nil), aborted...), lost...), members...)
		var sending, reading sync.WaitGroup
		for sender := range uint32(senders) {
			sending.Go(func() {
				for i := range uint32(frames) {
					f := numberedFrame(sender, i)
					for k, s := range all {
						if err := s.SendFrame(f); err != nil && k >= len(aborted)+len(lost) {
							t.Errorf("%s: frame %d: %v", s.Transport(), i, err)
						}
					}
					if i == frames/2 {
						for k, s := range aborted {
							s.Abort(nil)
							left[k].close()
						}
					}
				}
			})
		}
		for _, p := range peers {
			reading.Go(func() {
				var next [senders]uint32
				for range senders * frames {
					sender, i, err := p.frame()
					if err != nil || sender >= senders || i != next[sender] {
						t.Errorf("%s: frame %d of sender %d where %v are due: %v", p.transport, i, sender, next, err)
						return
					}
					next[sender]++
				}
			})
		}
		sending.Wait()
		reading.Wait()
		for range len(aborted) + len(lost) {
			testkit.Receive(t, c.reasons, "the end of the others")
		}
	})
}

// TestSlowPeersOfFrames: on every transport the policy applies to a peer that does not
// read, and those that read get every frame.
func TestSlowPeersOfFrames(t *testing.T) {
	for _, policy := range []engine.SlowConsumerPolicy{
		engine.SlowConsumerClose, engine.SlowConsumerDropNewest, engine.SlowConsumerDropOldest,
	} {
		t.Run(fmt.Sprint(policy), func(t *testing.T) {
			const frames = 1600 // of 11 kB on average
			const limit = 256 << 10
			c := openClub(t, engine.Config{Cores: 2, SlowConsumer: policy, OutboxLimit: limit, OutboxSoftMark: limit, MaxMessageSize: limit / 4})
			peers, good := c.join(t)
			stalled, slow := c.join(t)
			failed := make([]error, len(slow))
			for i := range uint32(frames) {
				f := numberedFrame(0, i)
				for k, s := range good {
					if err := s.SendFrame(f); err != nil {
						t.Fatalf("%s: frame %d: %v", s.Transport(), i, err)
					}
					if err := slow[k].SendFrame(f); err != nil {
						failed[k] = err
					}
				}
				for _, p := range peers {
					if _, got, err := p.frame(); err != nil || got != i {
						t.Fatalf("%s: frame %d where %d is due: %v", p.transport, got, i, err)
					}
				}
			}
			for k, p := range stalled {
				checkStalled(t, c, policy, p, slow[k], failed[k], frames)
			}
			if dropped := c.Stats().DroppedMessages > 0; dropped != (policy != engine.SlowConsumerClose) {
				t.Errorf("dropped: %t", dropped)
			}
		})
	}
}

// checkStalled lets p read the frames that were kept for it.
func checkStalled(t *testing.T, c *club, policy engine.SlowConsumerPolicy, p *peer, s *engine.Session, failed error, frames uint32) {
	t.Helper()
	switch policy {
	case engine.SlowConsumerClose:
		if reason := testkit.Receive(t, c.reasons, "the end"); !errors.Is(reason, engine.ErrSlowConsumer) || failed == nil {
			t.Errorf("%s: the sender got %v, and a session ended with %v", p.transport, failed, reason)
		}
		return
	case engine.SlowConsumerDropNewest:
		if !errors.Is(failed, engine.ErrDropped) {
			t.Errorf("%s: the sender got %v", p.transport, failed)
		}
	case engine.SlowConsumerDropOldest:
		if failed != nil {
			t.Errorf("%s: the sender got %v", p.transport, failed)
		}
	}
	const last = 1_000_000
	count := make(chan uint32, 1)
	go func() {
		n := uint32(0)
		for next := uint32(0); next <= last; n++ {
			_, i, err := p.frame()
			if err != nil || i < next {
				t.Errorf("%s: frame %d after %d: %v", p.transport, i, next, err)
				break
			}
			next = i + 1
		}
		count <- n
	}()
	testkit.Eventually(t, func() bool { return s.SendFrame(numberedFrame(0, last)) == nil }, "space for the last frame")
	if n := testkit.Receive(t, count, "the last frame"); n > frames {
		t.Errorf("%s: %d of %d frames have come", p.transport, n, frames)
	}
}

// TestTextFrame: one frame reaches a browser as text, and a peer of packets as a packet.
func TestTextFrame(t *testing.T) {
	c := openClub(t, engine.Config{})
	f := engine.NewFrame(&framing.Message{ID: 5, Text: true, Payload: []byte("grüß")})
	for path, want := range map[string]ws.Frame{
		"/echo": ws.NewTextFrame([]byte("grüß")),
		"/ws":   ws.NewBinaryFrame(serve.Packet(f.Message())),
	} {
		conn := upgrade(t, "ws://"+c.addr+path)
		defer conn.Close()
		testkit.Write(t, conn, packWS(nil, serve.Packet(&framing.Message{})))
		s := testkit.Receive(t, c.members, path)
		for range 3 {
			if err := s.SendFrame(f); err != nil {
				t.Fatal(err)
			}
			testkit.Expect(t, conn, ws.MustCompileFrame(want))
		}
	}
	bad := engine.NewFrame(&framing.Message{Text: true, Payload: []byte("\xff")})
	conn := upgrade(t, "ws://"+c.addr+"/echo")
	defer conn.Close()
	testkit.Write(t, conn, packWS(nil, nil))
	s := testkit.Receive(t, c.members, "the session")
	if err := s.SendFrame(bad); !errors.Is(err, framing.ErrUnencodable) {
		t.Errorf("text that is not UTF-8: %v", err)
	}
	if err := s.SendFrame(f); err != nil {
		t.Error(err)
	}
	testkit.Expect(t, conn, ws.MustCompileFrame(ws.NewTextFrame([]byte("grüß"))))
}
