package engine_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
)

func TestHazard18BusyAddressIsAnError(t *testing.T) {
	_, addr := serve(t, engine.Config{Handler: echo})
	e := engine.New(engine.Config{Handler: echo})
	if _, err := e.Listen(addr, engine.Packets()); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), addr) {
		t.Fatal(err)
	}
	// Serve reports it too, for programs that look only there.
	if err := e.Serve(context.Background()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
}

// TestListenOnAnotherPortMakesUpForAFailedOne tries one address, else the next,
// before and after starting.
func TestListenOnAnotherPortMakesUpForAFailedOne(t *testing.T) {
	_, busy := serve(t, engine.Config{Handler: echo})
	e := engine.New(engine.Config{Handler: echo})
	defer func() { _ = e.Close() }()
	listen := func(addr string) (*engine.Listener, error) { return e.Listen(addr, engine.Packets()) }
	if _, err := listen(busy); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	if err := e.Start(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("Start without a listener: %v", err)
	}
	l, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(busy); !errors.Is(err, syscall.EADDRINUSE) { // an address that isn't essential
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatalf("Start with a listener: %v", err)
	}
	if _, err := listen(busy); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
	for _, addr := range []string{l.Addr().String(), mustListen(t, e).Addr().String()} {
		c := dial(t, addr)
		_, _ = c.Write(ping)
		expect(t, c, pong)
	}
}

// mustListen is Listen for packets on a free port.
func mustListen(t *testing.T, e *engine.Engine) *engine.Listener {
	t.Helper()
	l, err := e.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestStartReportsAFailedListenOnlyWithoutAListener: a closed listener is none.
func TestStartReportsAFailedListenOnlyWithoutAListener(t *testing.T) {
	_, busy := serve(t, engine.Config{Handler: echo})
	e := engine.New(engine.Config{Handler: echo})
	mustListen(t, e).Close()
	if _, err := e.Listen(busy, engine.Packets()); err == nil {
		t.Fatal("no error")
	}
	if err := e.Serve(context.Background()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatal(err)
	}
}

func TestListenRefusesWhatItCanNotServe(t *testing.T) {
	for name, f := range map[string]func(e *engine.Engine) error{
		"no protocol": func(e *engine.Engine) error { _, err := e.Listen("127.0.0.1:0"); return err },
		"no transport": func(e *engine.Engine) error {
			_, err := e.Listen("127.0.0.1:0", nameOnly{})
			return err
		},
		"bad framer": func(e *engine.Engine) error {
			_, err := e.Listen("127.0.0.1:0", engine.Framed(framing.LengthPrefix{Size: 3}))
			return err
		},
		"bad address": func(e *engine.Engine) error { _, err := e.Listen("nonsense", engine.Packets()); return err },
	} {
		t.Run(name, func(t *testing.T) {
			e := engine.New(engine.Config{Handler: echo})
			defer func() { _ = e.Close() }()
			if err := f(e); err == nil {
				t.Error("no error")
			}
		})
	}
}

type nameOnly struct{}

func (nameOnly) Name() string { return "name" }

func TestConfigNamesTheOffendingField(t *testing.T) {
	for field, cfg := range map[string]engine.Config{
		"Handler":        {},
		"Dispatch":       {Handler: echo, Dispatch: 9},
		"Cores":          {Handler: echo, Cores: -1},
		"MaxMessageSize": {Handler: echo, MaxMessageSize: 1 << 31},
		"RingSize":       {Handler: echo, RingSize: 1},
		"ReadBufferSize": {Handler: echo, ReadBufferSize: 1},
		"OutboxSoftMark": {Handler: echo, OutboxSoftMark: -1},
		"OutboxLimit":    {Handler: echo, OutboxLimit: 1},
		"IdleTimeout":    {Handler: echo, IdleTimeout: -1},
	} {
		e := engine.New(cfg)
		if _, err := e.Listen("127.0.0.1:0", engine.Packets()); err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s: %v", field, err)
		}
		_ = e.Close()
	}
}

func TestFirstBytesThatNoProtocolKnows(t *testing.T) {
	j := newJournal(reply)
	e, addr := serve(t, engine.Config{Handler: j}, hello{engine.Packets()}, engine.Packets())
	c := dial(t, addr)
	_, _ = c.Write([]byte("\x16\x03\x01 what is this"))
	if got, err := io.ReadAll(c); err != nil || len(got) > 0 {
		t.Fatalf("%q, %v", got, err)
	}
	_ = c.Close()
	waitFor(t, "the count", func() bool { return e.Stats().Refused["protocol_error"] == 1 })
	if len(j.opened) > 0 {
		t.Fatal("opened")
	}
}

func TestListenerCloseLeavesSessionsAlone(t *testing.T) {
	e := engine.New(engine.Config{Handler: echo})
	defer func() { _ = e.Close() }()
	l, err := e.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	c := dial(t, l.Addr().String())
	_, _ = c.Write(ping)
	expect(t, c, pong)
	l.Close()
	l.Close()
	waitFor(t, "the listener to close", func() bool {
		c, err := net.DialTimeout("tcp", l.Addr().String(), time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

func TestTwoListenersWithDifferentFramings(t *testing.T) {
	e, packets := serve(t, engine.Config{Handler: echo})
	l, err := e.Listen("127.0.0.1:0", engine.Framed(framing.Line{}))
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, l.Addr().String())
	_, _ = c.Write([]byte("one\ntwo\n"))
	expect(t, c, []byte("one\ntwo\n"))
	c = dial(t, packets)
	_, _ = c.Write(ping)
	expect(t, c, pong)
}

func TestHazard12ConnectionsLeaveNothingBehind(t *testing.T) {
	eachDispatch(t, func(t *testing.T, d engine.Dispatch) {
		e, addr := serve(t, engine.Config{Handler: echo, Dispatch: d})
		for range 2000 {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(ping)
			expect(t, c, pong)
			_ = c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT: ports are few
			_ = c.Close()
		}
		waitFor(t, "the sessions to end", func() bool { return e.Stats().Active == 0 })
		for range e.Sessions() {
			t.Fatal("a session is left")
		}
		st := e.Stats()
		if st.Accepted != 2000 || st.Transports[0].Active != 0 || st.Transports[0].Opened != 2000 {
			t.Fatalf("%+v", st)
		}
	})
}

func TestSessionValues(t *testing.T) {
	j := newJournal(reply)
	_, addr := serve(t, engine.Config{Handler: j})
	_ = dial(t, addr)
	s := j.session(t)
	type key struct{ n int }
	if s.Value(key{1}) != nil {
		t.Fatal("a value that nobody set")
	}
	s.SetValue(key{1}, "one")
	s.SetValue(key{2}, "two")
	s.SetValue(key{1}, "uno")
	if s.Value(key{1}) != "uno" || s.Value(key{2}) != "two" || s.Value(key{3}) != nil {
		t.Fatal(s.Value(key{1}), s.Value(key{2}))
	}
}

func TestSessionIDsAreNotUsedAgain(t *testing.T) {
	seen := map[engine.ID]bool{}
	j := newJournal(reply)
	e, addr := serve(t, engine.Config{Handler: j, Cores: 1})
	for range 100 {
		c := dial(t, addr)
		s := j.session(t)
		if seen[s.ID()] || s.ID() == 0 {
			t.Fatal("ID ", s.ID(), " again")
		}
		seen[s.ID()] = true
		_ = c.Close()
		j.reason(t)
	}
	for id := range seen {
		if e.Session(id) != nil {
			waitFor(t, "the session to be gone", func() bool { return e.Session(id) == nil })
		}
	}
}
