//go:build !race

package engine_test

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

// TestFramesDoNotAllocate: a frame that is encoded allocates nothing for a session, whether
// it is written by itself or with others.
func TestFramesDoNotAllocate(t *testing.T) {
	const sessions, together = 16, 10
	for _, size := range []int{10, 5000} {
		f := engine.NewFrame(&framing.Message{Payload: make([]byte, size)})
		j := newJournal(func(s *engine.Session, _ *framing.Message) {
			for range together {
				_ = s.SendFrame(f)
			}
		})
		_, addr := serve(t, engine.Config{Handler: j})
		peers, targets := openMany(t, j, addr, sessions)
		want := bytes.Repeat(packet(f.Message()), together)
		got := make([]byte, len(want))
		for _, peer := range peers {
			expect(t, peer, want) // the answer to the ping of openMany
		}
		round := func() {
			for i, s := range targets {
				_ = s.SendFrame(f)
				if _, err := io.ReadFull(peers[i], got[:len(got)/together]); err != nil {
					t.Fatal(err)
				}
			}
			for _, peer := range peers {
				_, _ = peer.Write(ping)
				if _, err := io.ReadFull(peer, got); err != nil {
					t.Fatal(err)
				}
			}
		}
		for range 20 {
			round() // fill the pools
		}
		// A collection may empty the pools: a few allocations come from there.
		if n := testing.AllocsPerRun(50, round); n > sessions/4 {
			t.Errorf("%v allocations for %d frames of %d bytes", n, sessions*(1+together), size)
		}
	}
}

// BenchmarkFanOut sends one message to 1,000 sessions: as a frame, and by Send to each. The
// peers of "read" take each message; reading is not measured. Those of "stalled" take
// nothing, so older messages are dropped; B/session is the memory of a full outbox of
// 64 KiB.
func BenchmarkFanOut(b *testing.B) {
	for name, fanOut := range map[string]func(*testing.B, int, bool){"read": fanOutRead, "stalled": fanOutStalled} {
		for _, size := range []int{100, 1 << 10, 16 << 10} {
			b.Run(fmt.Sprintf("%s/%d/frame", name, size), func(b *testing.B) { fanOut(b, size, true) })
			b.Run(fmt.Sprintf("%s/%d/send", name, size), func(b *testing.B) { fanOut(b, size, false) })
		}
	}
}

const fanOutSessions = 1000

// fanOut sends a payload once to each session.
func fanOut(targets []*engine.Session, payload []byte, frame bool) {
	if !frame {
		for _, s := range targets {
			_ = s.Send(payload)
		}
		return
	}
	f := engine.NewFrame(&framing.Message{Payload: payload})
	for _, s := range targets {
		_ = s.SendFrame(f)
	}
}

func fanOutRead(b *testing.B, size int, frame bool) {
	j := newJournal(nil)
	_, addr := serve(b, engine.Config{Handler: engine.HandlerFuncs{Open: j.Open}})
	peers, targets := openMany(b, j, addr, fanOutSessions)
	for _, peer := range peers {
		_ = peer.SetDeadline(time.Time{})
	}
	payload, got := make([]byte, size), make([]byte, size+framing.PacketHeaderSize)
	b.ReportAllocs()
	for b.Loop() {
		fanOut(targets, payload, frame)
		b.StopTimer()
		for _, peer := range peers {
			if _, err := io.ReadFull(peer, got); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
	}
}

func fanOutStalled(b *testing.B, size int, frame bool) {
	const limit = 64 << 10
	j := newJournal(nil)
	e, addr := serve(b, engine.Config{
		Handler: engine.HandlerFuncs{Open: j.Open}, SlowConsumer: engine.SlowConsumerDropOldest,
		OutboxLimit: limit, OutboxSoftMark: limit, MaxMessageSize: limit / 2, Socket: engine.SocketOptions{WriteBuffer: 4 << 10},
	})
	peers, targets := openMany(b, j, addr, fanOutSessions)
	for _, peer := range peers {
		_ = peer.SetReadBuffer(4 << 10)
	}
	before := liveHeap()
	payload := make([]byte, size)
	for dropped := uint64(0); dropped < fanOutSessions*limit/uint64(size); dropped = e.Stats().DroppedMessages {
		fanOut(targets, payload, frame)
	}
	b.ReportAllocs()
	for b.Loop() {
		fanOut(targets, payload, frame)
	}
	b.StopTimer()
	b.ReportMetric((liveHeap()-before)/fanOutSessions, "B/session")
}

// liveHeap returns how many bytes of the heap are in use.
func liveHeap() float64 {
	for range 3 {
		runtime.GC() // empties the pools, too
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
