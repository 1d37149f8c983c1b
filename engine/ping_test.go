package engine_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// pinging is packets with a ping: a packet of biz type 9.
type pinging struct{ engine.StreamProtocol }

func (p pinging) Accept(c *engine.Control) engine.Codec {
	return pingingCodec{p.StreamProtocol.Accept(c)}
}

type pingingCodec struct{ engine.Codec }

func (pingingCodec) AppendPing(dst []byte) []byte { return append(dst, thePing...) }

var thePing = packet(&framing.Message{BizType: 9})

// TestPings: a silent peer gets pings; it stays if it answers, and ends if it does not.
func TestPings(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		j := newJournal(reply)
		e, addr := serve(t, engine.Config{Handler: j, Dispatch: d, Cores: 1, PingInterval: 50 * time.Millisecond,
			PongTimeout: 1500 * time.Millisecond}, pinging{engine.Packets()})
		c := dial(t, addr)
		j.session(t)
		for range 40 { // together longer than PongTimeout
			expect(t, c, thePing)
			_, _ = c.Write(ping) // any byte is an answer
			expect(t, c, pong)
		}
		expect(t, c, thePing)
		if n, err := c.Read(make([]byte, 1)); n > 0 || err == nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		_ = c.Close()
		if err := j.reason(t); !errors.Is(err, engine.ErrPongTimeout) {
			t.Error(err)
		}
		if n := e.Stats().Closed["pong_timeout"]; n != 1 {
			t.Errorf("%d are counted", n)
		}
	})
}

// TestPingsWaitForThePausedEngine: a peer whose answers are not read is not ended.
func TestPingsWaitForThePausedEngine(t *testing.T) {
	j := newJournal(reply)
	_, addr := serve(t, engine.Config{Handler: j, Cores: 1, PingInterval: 50 * time.Millisecond,
		PongTimeout: 50 * time.Millisecond}, pinging{engine.Packets()})
	c := dial(t, addr)
	s := j.session(t)
	s.Pause()
	_, _ = c.Write(ping)
	time.Sleep(400 * time.Millisecond) // an engine that counted this time would have ended the session
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	s.Resume()
	expectAfterPings(t, c, pong)
}

// TestPingsDoNotWaitBehindABacklog: a peer that reads slowly gets no ping that it could not
// answer in time.
func TestPingsDoNotWaitBehindABacklog(t *testing.T) {
	j := newJournal(reply)
	_, addr := serve(t, engine.Config{Handler: j, Cores: 1, PingInterval: 50 * time.Millisecond, PongTimeout: 50 * time.Millisecond,
		OutboxLimit: 64 << 20, OutboxSoftMark: 64 << 20}, pinging{engine.Packets()})
	c := dial(t, addr)
	s := j.session(t)
	for range 32 { // more than the sockets take
		if err := s.Send(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(400 * time.Millisecond) // an engine that pinged would have ended the session
	if s.Err() != nil {
		t.Fatal(s.Err())
	}
	if _, err := io.CopyN(io.Discard, c, 32<<20); err != nil {
		t.Error(err)
	}
}

// TestPingSettingsAreChecked refuses what makes no sense.
func TestPingSettingsAreChecked(t *testing.T) {
	for _, cfg := range []engine.Config{{PingInterval: -1}, {PongTimeout: 1}, {PingInterval: 1, PongTimeout: -1}} {
		cfg.Handler = echo
		if err := engine.New(cfg).Start(); err == nil {
			t.Errorf("%v, %v", cfg.PingInterval, cfg.PongTimeout)
		}
	}
}

// expectAfterPings reads want, and pings before it.
func expectAfterPings(t *testing.T, c io.Reader, want []byte) {
	t.Helper()
	for {
		got := make([]byte, len(thePing))
		if _, err := io.ReadFull(c, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, thePing) {
			rest := make([]byte, len(want)-len(got))
			if _, err := io.ReadFull(c, rest); err != nil || !bytes.Equal(append(got, rest...), want) {
				t.Fatalf("got % x % x, %v", got, rest, err)
			}
			return
		}
	}
}
