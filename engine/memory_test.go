package engine_test

import (
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/wsupgrade"
)

// memoryLimit is the limit of these tests, in bytes.
const memoryLimit = 64 << 20

// limited is an engine with a memoryLimit, and a transport that accounts as much memory as
// a test wants.
type limited struct {
	*engine.Engine
	*journal
	t         *testing.T
	addr      string
	transport fake
	load      int // accounted by the transport
}

func serveLimited(t *testing.T, cfg engine.Config) *limited {
	t.Helper()
	l := &limited{t: t, journal: newJournal(func(s *engine.Session, m *framing.Message) { _ = s.Reply(m, m.Payload) })}
	cfg.Handler, cfg.MemoryLimit, cfg.Cores, cfg.LingerTimeout = l.journal, memoryLimit, 1, 10*time.Second
	l.Engine, l.addr = serve(t, cfg, wsupgrade.Path("/ws"), engine.Packets(), &l.transport)
	t.Cleanup(func() { l.transport.host.AccountMemory(-l.load) })
	idleMemory(t, l.Engine) // engines of earlier tests may still close
	return l
}

// fill makes the account hold that many bytes more or less than a share of the limit.
func (l *limited) fill(percent, more int) {
	n := memoryLimit/100*percent + more - int(l.Stats().Memory.Used)
	l.load += n
	l.transport.host.AccountMemory(n)
}

// peer returns a new connection and its session.
func (l *limited) peer() (*net.TCPConn, *engine.Session) {
	l.t.Helper()
	c := dial(l.t, l.addr)
	_, _ = c.Write(ping)
	expect(l.t, c, pong)
	return c, l.session(l.t)
}

// slow returns a session with so many bytes queued for a peer that does not read.
func (l *limited) slow(bytes int) *engine.Session {
	l.t.Helper()
	c, s := l.peer()
	_ = c.SetReadBuffer(4 << 10)
	l.send(s, bytes)
	return s
}

func (l *limited) send(s *engine.Session, bytes int) {
	for range bytes / 10_000 {
		if err := s.Send(make([]byte, 10_000)); err != nil {
			l.t.Fatal(err)
		}
	}
}

// unread are settings with which a little waits in the system, and much in the outbox.
func unreadLimited(mark int) engine.Config {
	return engine.Config{OutboxSoftMark: mark, WriteTimeout: -1, SlowConsumer: engine.SlowConsumerDropNewest,
		Socket: engine.SocketOptions{WriteBuffer: 4 << 10}}
}

// TestMemoryLimitRefuses: above 80 % no new peer is admitted, in the protocol's way, and the
// session that was there is served. Below it everybody is.
func TestMemoryLimitRefuses(t *testing.T) {
	l := serveLimited(t, engine.Config{})
	old, _ := l.peer()
	l.fill(81, 0)
	waitFor(t, "a refusal", func() bool { return refused(t, l.addr) })
	if n := l.Stats().Refused["memory_limit"]; n == 0 {
		t.Error("no refusal is counted: ", l.Stats().Refused)
	}
	if _, err := l.Dial(t.Context(), l.addr, engine.Packets()); !errors.Is(err, engine.ErrMemoryLimit) || !errors.Is(err, engine.ErrRefused) {
		t.Error("Dial: ", err)
	}
	web := dial(t, l.addr)
	_, _ = web.Write([]byte("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	answer := make([]byte, 12)
	if n, _ := web.Read(answer); !strings.HasPrefix(string(answer[:n]), "HTTP/1.1 503") {
		t.Errorf("a WebSocket client is refused by %q", answer[:n])
	}
	_, _ = old.Write(ping)
	expect(t, old, pong)
	l.fill(50, 0)
	waitFor(t, "a connection to be admitted", func() bool { return !refused(t, l.addr) })
}

// TestMemoryLimitPauses: at 90 % a session with a large incomplete message is not read, a
// small one is, and below 90 % nothing is lost.
func TestMemoryLimitPauses(t *testing.T) {
	l := serveLimited(t, engine.Config{OutboxSoftMark: 64 << 10, PartialTimeout: time.Hour})
	small, _ := l.peer()
	large, _ := l.peer()
	message := packet(&framing.Message{Type: framing.Request, ID: 7, Payload: make([]byte, 400<<10)})
	_, _ = large.Write(message[:200<<10])
	waitFor(t, "its start to be read", func() bool { return l.Stats().BytesIn > 200<<10 })
	l.fill(91, 0)
	waitFor(t, "the pause", func() bool { return l.Stats().Memory.Paused == 1 })
	before := l.Stats().BytesIn
	go func() { _, _ = large.Write(message[200<<10:]) }()
	const pings = 100
	for range pings {
		_, _ = small.Write(ping)
		expect(t, small, pong)
	}
	if n := l.Stats().BytesIn - before; n != uint64(pings*len(ping)) {
		t.Errorf("%d bytes were read, %d of them for the session that may be read", n, pings*len(ping))
	}
	l.fill(50, 0)
	expect(t, large, packet(&framing.Message{Type: framing.Response, ID: 7, Payload: make([]byte, 400<<10)}))
	if n := l.Stats().Closed; len(n) > 0 {
		t.Error("closed: ", n)
	}
}

// TestMemoryLimitResumes: a paused session whose peer reads its replies is read again,
// though the process is still above 90 %.
func TestMemoryLimitResumes(t *testing.T) {
	l := serveLimited(t, unreadLimited(64<<10))
	const messages, size = 300, 10_000
	c, s := l.peer()
	l.send(s, messages*size)
	l.fill(95, 0)
	waitFor(t, "the pause", func() bool { return l.Stats().Memory.Paused == 1 })
	if _, err := io.CopyN(io.Discard, c, messages*(size+framing.PacketHeaderSize)); err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write(ping)
	expect(t, c, pong)
	if n := l.Stats().Memory; n.Used < memoryLimit/100*90 {
		t.Errorf("only %d bytes are used", n.Used)
	}
}

// TestMemoryLimitPauseEndsWithThePeer: the end of a paused session's peer is noticed.
func TestMemoryLimitPauseEndsWithThePeer(t *testing.T) {
	l := serveLimited(t, engine.Config{OutboxSoftMark: 64 << 10, PartialTimeout: time.Hour})
	for _, reset := range []bool{true, false} {
		c, _ := l.peer()
		_, _ = c.Write(packet(&framing.Message{Payload: make([]byte, 400<<10)})[:200<<10])
		before := l.Stats()
		l.fill(91, 0)
		waitFor(t, "the pause", func() bool { return l.Stats().Memory.Paused > before.Memory.Paused })
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
		if err := l.reason(t); !errors.Is(err, engine.ErrConnectionLost) && !errors.Is(err, engine.ErrPeerClosed) {
			t.Error("it ended with ", err)
		}
		l.fill(50, 0)
		waitFor(t, "new peers to be admitted", func() bool { return !refused(t, l.addr) })
		waitFor(t, "the session's end", func() bool { return l.Stats().Active == 0 })
		for len(l.opened)+len(l.reasons) > 0 {
			select {
			case <-l.opened:
			case <-l.reasons:
			}
		}
	}
}

// TestMemoryLimitPauseDoesNotProtect: the time in which a session is not read because of
// the limit counts for PartialTimeout. Otherwise incomplete messages could hold the memory
// for ever.
func TestMemoryLimitPauseDoesNotProtect(t *testing.T) {
	l := serveLimited(t, engine.Config{OutboxSoftMark: 64 << 10, PartialTimeout: 300 * time.Millisecond})
	c, _ := l.peer()
	_, _ = c.Write(packet(&framing.Message{Payload: make([]byte, 400<<10)})[:200<<10])
	waitFor(t, "its start to be read", func() bool { return l.Stats().BytesIn > 200<<10 })
	l.fill(91, 0)
	waitFor(t, "the pause", func() bool { return l.Stats().Memory.Paused == 1 })
	_, _ = io.ReadAll(c)
	_ = c.Close()
	if err := l.reason(t); !errors.Is(err, engine.ErrPartialTimeout) {
		t.Error("it ended with ", err)
	}
}

// TestMemoryLimitCloses: at 100 % the session with the largest backlog is closed, under any
// policy, and no other.
func TestMemoryLimitCloses(t *testing.T) {
	l := serveLimited(t, unreadLimited(64<<10))
	small, medium := l.slow(20<<10), l.slow(1<<20)
	large := l.slow(3 << 20)
	l.fill(100, 1<<20)
	if err := l.reason(t); !errors.Is(err, engine.ErrMemoryLimit) || errors.Is(err, engine.ErrRefused) {
		t.Error("it ended with ", err)
	}
	waitFor(t, "the account to be below the limit", func() bool { return l.Stats().Memory.Used < memoryLimit })
	if large.Err() == nil || medium.Err() != nil || small.Err() != nil {
		t.Errorf("large %v, medium %v, small %v", large.Err(), medium.Err(), small.Err())
	}
	if n := l.Stats().Closed["memory_limit"]; n != 1 {
		t.Error(n, " closed")
	}
	l.fill(100, 20<<20) // more than all of them have
	if err := l.reason(t); !errors.Is(err, engine.ErrMemoryLimit) {
		t.Error("it ended with ", err)
	}
	l.fill(50, 0)
	if medium.Err() == nil || small.Err() != nil {
		t.Errorf("medium %v, small %v", medium.Err(), small.Err())
	}
}

// TestMemoryLimitHoldsBelowTheSoftMark: sessions that all stay below OutboxSoftMark, and
// together exceed the limit. Those with more than their share are closed.
func TestMemoryLimitHoldsBelowTheSoftMark(t *testing.T) {
	l := serveLimited(t, unreadLimited(256<<10))
	small := l.slow(10 << 10)
	var all []*engine.Session
	for range 250 {
		all = append(all, l.slow(0))
	}
	for _, s := range all {
		l.send(s, 200<<10)
	}
	l.fill(100, 5<<20)
	waitFor(t, "the account to be below the limit", func() bool {
		st := l.Stats()
		return st.Closed["memory_limit"] > 0 && st.Memory.Used < memoryLimit
	})
	if n := l.Stats().Closed["memory_limit"]; n > 150 {
		t.Error(n, " were closed")
	}
	if small.Err() != nil {
		t.Error("the session with less than its share: ", small.Err())
	}
}

// TestMemoryLimitClosesLinks: a transport's session is judged by the figure of its link.
func TestMemoryLimitClosesLinks(t *testing.T) {
	l := serveLimited(t, engine.Config{})
	open := func(bytes int) *bufferedLink {
		b := &bufferedLink{fakeLink: &fakeLink{opened: make(chan struct{}), ended: make(chan struct{})}, bytes: bytes}
		p, err := l.transport.host.Open(b, engine.OpenInfo{})
		if err != nil {
			t.Fatal(err)
		}
		b.port, b.session = p, p.Session()
		close(b.opened)
		return b
	}
	small, large := open(100<<10), open(300<<10)
	l.fill(91, 0)
	waitFor(t, "the pause", large.paused.Load)
	l.fill(101, 0)
	<-large.ended
	l.fill(50, 0)
	if small.paused.Load() || small.session.Err() != nil {
		t.Error("the session below the mark: ", small.session.Err())
	}
}

// bufferedLink is a link with a figure.
type bufferedLink struct {
	*fakeLink
	bytes int
}

func (b *bufferedLink) Buffered() int { return b.bytes }

// TestMemoryCounts: the account contains sessions, TLS, and messages in a codec's memory.
func TestMemoryCounts(t *testing.T) {
	e, addr := serve(t, engine.Config{Handler: echo}, engine.TLS(engine.TLSConfig{CertPEM: testCert, KeyPEM: testKey}),
		wsupgrade.Path("/ws"), engine.Packets())
	for _, c := range []struct {
		what        string
		open        func() net.Conn
		least, most int64
	}{
		{"TCP", func() net.Conn { return dial(t, addr) }, 400, 600},
		{"TLS", func() net.Conn { return dialTLS(t, addr, clientTLS(0)) }, 7 << 10, 40 << 10},
		{"a fragment", func() net.Conn { return sendFragment(t, addr) }, 500 << 10, 2 << 20},
	} {
		// The buffers of a core are counted at its first use.
		before := idleMemory(t, e)
		conn := c.open()
		var more int64
		waitFor(t, c.what+" to be counted", func() bool {
			more = e.Stats().Memory.Used - before
			return more >= c.least
		})
		if more = idleMemory(t, e) - before; more < c.least || more > c.most {
			t.Errorf("%s counts %d bytes", c.what, more)
		}
		_ = conn.Close()
		waitFor(t, c.what+" to be uncounted", func() bool { return e.Stats().Memory.Used == before })
	}
}

// idleMemory returns the account when it has not changed for a while.
func idleMemory(t *testing.T, e *engine.Engine) (n int64) {
	same := 0
	waitFor(t, "an unchanged account", func() bool {
		if now := e.Stats().Memory.Used; now != n {
			n, same = now, 0
		}
		same++
		return same == 20
	})
	return n
}

// sendFragment upgrades a connection and sends the first fragment of a message.
func sendFragment(t *testing.T, addr string) net.Conn {
	c := dial(t, addr)
	_, _ = c.Write([]byte("GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	frame := make([]byte, 14+512<<10)
	copy(frame, []byte{2, 0xff, 0, 0, 0, 0, 0, 8, 0, 0}) // binary, masked by zeros, not the last one
	go func() { _, _ = c.Write(frame) }()
	return c
}

// TestMemoryLimitDefault: the default is a share of the memory that there is.
func TestMemoryLimitDefault(t *testing.T) {
	if n := engine.New(engine.Config{Handler: echo}).Config().MemoryLimit; n < 64<<20 || n > 1<<50 {
		t.Errorf("the default is %d", n)
	}
	if n := engine.New(engine.Config{Handler: echo, MemoryLimit: -1}).Config().MemoryLimit; n >= 0 {
		t.Errorf("none is %d", n)
	}
	tooSmall := engine.Config{Handler: echo, Cores: 4, MemoryLimit: 5 << 20}
	if err := tooSmall.Validate(); err == nil || !strings.Contains(err.Error(), "MemoryLimit") {
		t.Error("rings of 4 MiB in a limit of 5: ", err)
	}
}
