package torture_test

import (
	"encoding/binary"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// narrow starts an engine of one core with the smallest ring.
func narrow(t *testing.T, h engine.Handler) (*engine.Engine, string) {
	t.Helper()
	e := engine.New(engine.Config{Handler: h, Cores: 1, MaxMessageSize: 32 << 10, RingSize: 64 << 10, ReadBufferSize: 8 << 10,
		LingerTimeout: testkit.Patience, WriteTimeout: testkit.Patience})
	l, err := e.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e, l.Addr().String()
}

// TestFullRingKeepsOrder: sessions fill a ring with messages that are too large for it,
// each alone at the end of a read. A message that found no space must be handled before
// later messages of its session. Promises P1 and P5.
func TestFullRingKeepsOrder(t *testing.T) {
	const sessions, each = 64, 100
	var wrong, handled atomic.Int64
	type next struct{}
	_, addr := narrow(t, engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		n, _ := s.Value(next{}).(*uint32)
		if n == nil {
			n = new(uint32)
			s.SetValue(next{}, n)
		}
		if m.ID != *n && wrong.Add(1) <= 5 {
			t.Errorf("session %d: message %d, not %d", s.ID(), m.ID, *n)
		}
		*n = m.ID + 1
		handled.Add(1)
		for began := time.Now(); time.Since(began) < 50*time.Microsecond; {
			// A slow handler, so that the ring is full.
		}
		s.Reply(m, nil)
	}))
	var peers sync.WaitGroup
	for i := range sessions {
		peers.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(2 * testkit.Patience))
			go func() {
				b := request(0, make([]byte, 5000)) // above the ring's share of 4 KiB
				for id := range uint32(each) {
					binary.BigEndian.PutUint32(b[4:], id)
					if _, err := conn.Write(b); err != nil {
						return
					}
					time.Sleep(time.Duration(id*7919%500) * time.Microsecond) // so that the sessions take turns
				}
				_ = conn.(*net.TCPConn).CloseWrite()
			}()
			got, err := io.ReadAll(conn)
			if err != nil || len(got) != each*framing.PacketHeaderSize {
				t.Errorf("session %d: %d replies of %d: %v", i, len(got)/framing.PacketHeaderSize, each, err)
			}
		})
	}
	peers.Wait()
	if n := handled.Load(); n != sessions*each {
		t.Errorf("%d messages handled, not %d", n, sessions*each)
	}
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d messages came in a wrong place", n)
	}
}

// TestFullRingOpensFirst: while the ring is full, sessions start with messages in their
// first packet. OnOpen must come before these messages. Promise P1.
func TestFullRingOpensFirst(t *testing.T) {
	var early, twice, messages atomic.Int64
	type opened struct{}
	_, addr := narrow(t, engine.HandlerFuncs{
		Open: func(s *engine.Session) {
			if s.Value(opened{}) != nil {
				twice.Add(1)
			}
			s.SetValue(opened{}, true)
		},
		Message: func(s *engine.Session, m *framing.Message) {
			if s.Value(opened{}) == nil {
				early.Add(1)
				s.SetValue(opened{}, true)
			}
			messages.Add(1)
			s.Reply(m, nil)
		},
	})
	const peers, visits, each = 24, 60, 30
	var all sync.WaitGroup
	for range peers {
		all.Go(func() {
			var first []byte
			for id := range uint32(each) {
				first = append(first, request(id, make([]byte, 100+int(id)%3*2500))...)
			}
			for range visits {
				conn, err := net.Dial("tcp", addr)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
				go func() { _, _ = conn.Write(first); _ = conn.(*net.TCPConn).CloseWrite() }()
				got, err := io.ReadAll(conn)
				if err != nil || len(got) != each*framing.PacketHeaderSize ||
					binary.BigEndian.Uint32(got[len(got)-12:]) != each-1 {
					t.Errorf("%d bytes of replies: %v", len(got), err)
				}
				_ = conn.(*net.TCPConn).SetLinger(0)
				conn.Close()
			}
		})
	}
	all.Wait()
	if early.Load() > 0 || twice.Load() > 0 || messages.Load() != peers*visits*each {
		t.Errorf("%d messages before OnOpen, %d times OnOpen after a message, %d messages of %d",
			early.Load(), twice.Load(), messages.Load(), peers*visits*each)
	}
}
