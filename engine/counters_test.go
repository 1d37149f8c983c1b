package engine_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"reflect"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/quicbridge"
)

// moves collects which fields of Stats were seen to be other than zero.
type moves map[string]bool

// note looks at a snapshot, and at all that is nested in it.
func (m moves) note(st engine.Stats) { m.walk("Stats", reflect.ValueOf(st)) }

func (m moves) walk(path string, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			m.walk(path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			m.walk(path, v.Index(i))
		}
	case v.Kind() == reflect.Map:
		m[path] = m[path] || v.Len() > 0
	default:
		m[path] = m[path] || !v.IsZero()
	}
}

// fields are the paths of all counters in t, whether or not a snapshot has them.
func fields(path string, t reflect.Type) []string {
	switch t.Kind() {
	case reflect.Slice:
		return fields(path, t.Elem())
	case reflect.Struct:
		var all []string
		for i := range t.NumField() {
			all = append(all, fields(path+"."+t.Field(i).Name, t.Field(i).Type)...)
		}
		return all
	}
	return []string{path}
}

// driven is an engine that a test drives until each of its counters has moved.
type driven struct {
	*engine.Engine
	t    *testing.T
	addr string
	seen moves
	gate chan struct{} // the message "wait" blocks until it is closed
}

// until calls drive repeatedly until ok returns true for a snapshot.
func (d *driven) until(what string, drive func(), ok func(engine.Stats) bool) {
	d.t.Helper()
	waitFor(d.t, what, func() bool {
		drive()
		st := d.Stats()
		d.seen.note(st)
		return ok(st)
	})
}

// say sends one request.
func (d *driven) say(c net.Conn, what string) {
	_, _ = c.Write(packet(&framing.Message{Type: framing.Request, ID: 1, Payload: []byte(what)}))
}

// obey is the handler: each message is a command.
func (d *driven) obey(s *engine.Session, m *framing.Message) {
	switch string(m.Payload) {
	case "panic":
		panic("asked for")
	case "wait":
		<-d.gate
	case "flood":
		for range 1000 {
			if s.Send(make([]byte, 10_000)) != nil {
				return
			}
		}
	default:
		_ = s.Reply(m, m.Payload)
	}
}

func drive(t *testing.T, seen moves, cfg engine.Config) *driven {
	d := &driven{t: t, seen: seen, gate: make(chan struct{})}
	cfg.Handler = engine.HandlerFunc(d.obey)
	d.Engine, d.addr = serve(t, cfg, engine.Packets(), quicbridge.QUIC())
	return d
}

// TestHazard26EveryCounterMoves drives engines by real traffic until every field of Stats,
// and of its nested values, was not zero at least once.
func TestHazard26EveryCounterMoves(t *testing.T) {
	seen := moves{}
	d := drive(t, seen, engine.Config{Cores: 1, RingSize: 64 << 10, MaxMessageSize: 16 << 10, MaxSessions: 5,
		SlowConsumer: engine.SlowConsumerDropNewest, OutboxSoftMark: 64 << 10, OutboxLimit: 256 << 10})
	d.talk()
	d.misbehave()
	d.fillTheRing()
	d.wantDescriptors()
	throttled := drive(t, seen, engine.Config{MessageRate: 1})
	c := dial(t, throttled.addr)
	hungry := serveLimited(t, engine.Config{OutboxSoftMark: 64 << 10})
	large, _ := hungry.peer()
	_, _ = large.Write(packet(&framing.Message{Payload: make([]byte, 400<<10)})[:200<<10])
	hungry.fill(91, 0)
	waitFor(t, "a session paused for its memory", func() bool { return hungry.Stats().Memory.Paused > 0 })
	seen.note(hungry.Stats())
	throttled.until("a session held to its rate", func() { throttled.say(c, "again") },
		func(st engine.Stats) bool { return st.Throttled > 0 })
	for _, f := range fields("Stats", reflect.TypeFor[engine.Stats]()) {
		if f == "Stats.Cores.Pinned" && runtime.GOOS != "linux" || f == "Stats.Cores.Takeovers" && !takesOver {
			continue
		}
		if !seen[f] {
			t.Errorf("%s never moves", f)
		}
	}
}

// talk moves the counters that every message moves.
func (d *driven) talk() {
	c := dial(d.t, d.addr)
	_, _ = c.Write(ping)
	expect(d.t, c, pong)
	d.until("an echo", func() {}, func(st engine.Stats) bool {
		core := st.Cores[0]
		return st.Active == 1 && st.Accepted == 1 && st.MessagesIn == 1 && st.MessagesOut == 1 &&
			st.BytesIn == uint64(len(ping)) && st.BytesOut == uint64(len(pong)) && core.Records > 0
	})
}

// misbehave moves the counters of a faulty handler, a slow peer and too many peers.
func (d *driven) misbehave() {
	d.say(dial(d.t, d.addr), "panic")
	d.until("the panic", func() {}, func(st engine.Stats) bool {
		return st.Panics == 1 && st.Closed["handler_panic"] == 1
	})
	c := dial(d.t, d.addr)
	d.say(c, "flood")
	d.until("a dropped message", func() {}, func(st engine.Stats) bool { return st.DroppedMessages > 0 })
	_ = c.Close()
	d.until("a refusal", func() { refused(d.t, d.addr); dial(d.t, d.addr) },
		func(st engine.Stats) bool { return st.Refused["max_sessions"] > 0 })
	// Some of these connections may become sessions only now.
	d.until("the sessions' ends", d.abortAll, func(st engine.Stats) bool { return st.Active == 0 })
}

// abortAll aborts the sessions that there are at the moment.
func (d *driven) abortAll() {
	for s := range d.Sessions() {
		s.Abort(nil)
	}
}

// fillTheRing has a handler wait, and messages and datagrams come meanwhile.
func (d *driven) fillTheRing() {
	ctx, cancel := context.WithTimeout(d.t.Context(), 20*time.Second)
	defer cancel()
	q, err := quic.DialAddr(ctx, d.addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{quicbridge.ALPN}},
		&quic.Config{EnableDatagrams: true})
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = q.CloseWithError(0, "") }()
	datagram := packet(&framing.Message{Payload: make([]byte, 1000)})
	before := d.Stats().MessagesIn
	d.until("a datagram", func() { _ = q.SendDatagram(datagram) },
		func(st engine.Stats) bool { return st.MessagesIn > before })
	c := dial(d.t, d.addr)
	d.say(c, "wait")
	other := dial(d.t, d.addr)
	d.until("the reader", func() {}, func(st engine.Stats) bool { return !takesOver || st.Cores[0].Takeovers > 0 })
	go func() { _, _ = other.Write(numbered(200, 2000)) }()
	d.until("a stall", func() {}, func(st engine.Stats) bool {
		return st.Cores[0].Stalls > 0 && st.Cores[0].RingDepth > 0
	})
	d.until("a dropped datagram", func() { _ = q.SendDatagram(datagram) },
		func(st engine.Stats) bool { return st.DroppedDatagrams > 0 })
	close(d.gate)
}

// wantDescriptors lowers the process's limit until the server can't accept. The
// peer's own socket is made before.
func (d *driven) wantDescriptors() {
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		d.t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = syscall.Close(fd) }()
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
			d.t.Error(err)
		}
	}()
	lowered := before
	lowered.Cur = 3 // all of these are taken
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lowered); err != nil {
		d.t.Fatal(err)
	}
	to := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(d.addr))
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: to.Port, Addr: [4]byte(to.IP.To4())}); err != nil {
		d.t.Fatal(err)
	}
	d.until("an accept that fails", func() {}, func(st engine.Stats) bool {
		return st.AcceptErrors > 0 && st.LastAccept != nil
	})
}
