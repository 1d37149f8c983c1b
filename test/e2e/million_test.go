package e2e_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
)

// noise is the source of payloads.
var noise = func() []byte {
	b := make([]byte, 256<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(b) // it never fails
	return b
}()

// scripted sets m to message i of session number: of any size from nothing to
// more than the engine's read buffer, some with an extension header, of both
// types. It allocates nothing.
func scripted(m *framing.Message, number, i int) {
	size := i % 64
	switch {
	case i%5000 == 4999:
		size = 100_000 + number
	case i%50 == 49:
		size = 2000 + i%700
	}
	at := (number*7919 + i*31) % (len(noise) - 101_000)
	*m = framing.Message{
		Type: framing.Request, ID: uint32(i + 1), BizType: byte(number + i),
		Payload: noise[at : at+size],
	}
	if i%7 == 3 {
		m.Type = framing.OneWay
	}
	if i%11 == 5 {
		m.Ext = noise[at+size : at+size+1+i%40]
	}
}

// TestMillion sends a million messages over all transports at once to one
// handler, as fast as possible, and checks each field of each answer and their
// order. Under the race detector and with -short there are fewer.
func TestMillion(t *testing.T) {
	total := 1_000_000
	if testkit.RaceEnabled || testing.Short() {
		total = 200_000
	}
	serve.EachDispatch(t, func(t *testing.T, dispatch engine.Dispatch) {
		h := new(echoHandler)
		e, addr := startEngine(t, engine.Config{Handler: h, Dispatch: dispatch})
		// Most use TCP and WebSocket, because these cost least.
		shares := []struct{ kind, sessions, percent int }{{0, 4, 50}, {1, 4, 40}, {2, 2, 10}}
		var running sync.WaitGroup
		sessions, sent := 0, 0
		for _, share := range shares {
			for range share.sessions {
				number := sessions
				sessions++
				count := total / 2 * share.percent / 100 / share.sessions
				sent += count
				p := dialers[share.kind].dial(t, addr)
				running.Go(func() {
					defer p.close()
					if err := p.exchange(number, count); err != nil {
						t.Error(err)
					}
				})
			}
		}
		running.Wait()
		ends := h.awaitEnds(t, sessions)
		for _, end := range ends {
			if !errors.Is(end.reason, engine.ErrPeerClosed) {
				t.Errorf("%s: ended with %v", end.transport, end.reason)
			}
		}
		if len(ends) != sessions || h.opened.Load() != int64(sessions) || h.messages.Load() != int64(sent) {
			t.Errorf("%d sessions opened, %d ended, %d messages; want %d, %d, %d",
				h.opened.Load(), len(ends), h.messages.Load(), sessions, sessions, sent)
		}
		h.check(t)
		if stats := e.Stats(); stats.Active != 0 || stats.MessagesIn != uint64(sent) || stats.MessagesOut != uint64(sent) {
			t.Errorf("stats: %d active, %d in, %d out; want 0, %d, %d", stats.Active, stats.MessagesIn, stats.MessagesOut, sent, sent)
		}
	})
}

// exchange sends the first count messages of session number's script and
// verifies their answers.
func (p *peer) exchange(number, count int) error {
	written := make(chan error, 1)
	go func() { written <- p.say(number, count) }()
	err := p.hear(number, count)
	if err != nil {
		p.close() // otherwise say might never end
	}
	return errors.Join(err, <-written)
}

func (p *peer) say(number, count int) error {
	var m framing.Message
	var packet, out []byte
	for i := range count {
		scripted(&m, number, i)
		var err error
		if packet, err = framing.AppendPacket(packet[:0], &m); err != nil {
			return err
		}
		out = p.pack(out, packet)
		if len(out) >= peerBuffer || i == count-1 {
			if _, err := p.w.Write(out); err != nil {
				return fmt.Errorf("%s %d: message %d: %w", p.transport, number, i, err)
			}
			out = out[:0]
		}
	}
	return nil
}

func (p *peer) hear(number, count int) error {
	var want, got framing.Message
	for i := range count {
		packet, err := p.next()
		if err != nil {
			return fmt.Errorf("%s %d: answer %d: %w", p.transport, number, i, err)
		}
		n, err := framing.Packet{}.Decode(packet, 0, len(packet), &got)
		if err != nil || n != len(packet) {
			return fmt.Errorf("%s %d: answer %d: %d of %d bytes: %w", p.transport, number, i, n, len(packet), err)
		}
		scripted(&want, number, i)
		if want.Type == framing.Request {
			want.Type = framing.Response
		}
		if got.Type != want.Type || got.ID != want.ID || got.BizType != want.BizType || got.Flags != 0 ||
			!bytes.Equal(got.Ext, want.Ext) || !bytes.Equal(got.Payload, want.Payload) {
			return fmt.Errorf("%s %d: answer %d differs: got type %d, ID %d, biz type %d, %d + %d bytes; want %d, %d, %d, %d + %d",
				p.transport, number, i, got.Type, got.ID, got.BizType, len(got.Ext), len(got.Payload),
				want.Type, want.ID, want.BizType, len(want.Ext), len(want.Payload))
		}
	}
	return nil
}
