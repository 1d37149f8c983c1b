package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/quic-go/quic-go"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
	"github.com/millrace/millrace/internal/testkit/serve"
	"github.com/millrace/millrace/quicbridge"
)

// TestPanic lets the handler panic on one session of each transport while others
// of the same core go on, before and after.
func TestPanic(t *testing.T) {
	serve.EachDispatch(t, func(t *testing.T, dispatch engine.Dispatch) {
		h := &echoHandler{onMessage: func(_ *engine.Session, m *framing.Message) {
			if string(m.Payload) == "panic" {
				panic("as it was asked to")
			}
		}}
		log := new(testkit.Buffer)
		e, addr := startEngine(t, engine.Config{
			Handler: h, Dispatch: dispatch, Cores: 1, Logger: slog.New(slog.NewTextHandler(log, nil)),
			LingerTimeout: 200 * time.Millisecond, // these peers don't answer the server's close
		})
		var bystanders []*peer
		for _, d := range dialers {
			p := d.dial(t, addr)
			defer p.close()
			bystanders = append(bystanders, p)
		}
		check := func(id uint32) {
			t.Helper()
			for _, p := range bystanders {
				if err := p.ask(id, "still here?"); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i, d := range dialers {
			check(uint32(10 * (i + 1)))
			p := d.dial(t, addr)
			defer p.close()
			// Replies sent before the panic arrive; later messages aren't handled.
			if err := p.ask(1, "before"); err != nil {
				t.Fatal(err)
			}
			err := p.ask(2, "panic")
			if err == nil {
				t.Fatalf("%s: the panic was answered", d.transport)
			}
			checkPanicEnd(t, p, err)
			check(uint32(10*(i+1) + 1))

			end := h.awaitEnds(t, i+1)[i]
			var panicked *engine.PanicError
			if end.transport != d.transport || !errors.Is(end.reason, engine.ErrHandlerPanic) ||
				!errors.As(end.reason, &panicked) || panicked.Value != "as it was asked to" ||
				!strings.Contains(string(panicked.Stack), "TestPanic") {
				t.Errorf("%s ended with %v", end.transport, end.reason)
			}
		}
		if n := strings.Count(log.String(), "as it was asked to"); n != len(dialers) {
			t.Errorf("%d panics in the log, want %d: %s", n, len(dialers), log.String())
		}
		if stats := e.Stats(); stats.Panics != uint64(len(dialers)) || stats.Closed["handler_panic"] != uint64(len(dialers)) {
			t.Errorf("stats: %d panics, closed %v", stats.Panics, stats.Closed)
		}
		h.check(t)
	})
}

// checkPanicEnd checks the error that the peer's read returned: the end of the stream on
// TCP, a code on other transports.
func checkPanicEnd(t *testing.T, p *peer, err error) {
	t.Helper()
	var application *quic.ApplicationError
	switch p.transport {
	case "tcp":
		if !errors.Is(err, io.EOF) {
			t.Errorf("tcp: %v, want EOF", err)
		}
	case "ws":
		if !strings.Contains(err.Error(), "OpCode:8") || !strings.Contains(err.Error(), "03 f3") { // 1011
			t.Errorf("ws: %v, want a close frame with 1011", err)
		}
	case "quic":
		if err := p.cause(); !errors.As(err, &application) || !application.Remote || application.ErrorCode != quicbridge.CodeInternal {
			t.Errorf("quic: %v, want code %d", err, quicbridge.CodeInternal)
		}
	}
}

// TestPanicInOtherCallbacks checks OnOpen and OnClose.
func TestPanicInOtherCallbacks(t *testing.T) {
	serve.EachDispatch(t, func(t *testing.T, dispatch engine.Dispatch) {
		for _, where := range []string{"open", "close"} {
			handler := engine.HandlerFuncs{Message: func(s *engine.Session, m *framing.Message) { s.Reply(m, m.Payload) }}
			panicOnce := func(s *engine.Session) {
				if s.RemoteAddr().Port()%2 == 1 {
					panic(where)
				}
			}
			if where == "open" {
				handler.Open = panicOnce
			} else {
				handler.Close = func(s *engine.Session, _ error) { panicOnce(s) }
			}
			e, addr := startEngine(t, engine.Config{Handler: handler, Dispatch: dispatch, Cores: 1})
			odd := 0
			for range 20 {
				p := dialTCP(t, addr)
				err := p.ask(1, "hello")
				p.close()
				if err != nil {
					odd++
				}
			}
			if where == "open" && odd == 20 || where == "close" && odd > 0 {
				t.Errorf("%s: %d of 20 sessions failed", where, odd)
			}
			testkit.Eventually(t, func() bool { return e.Stats().Active == 0 }, fmt.Sprintf("no session is left after the panics in On%s", where))
		}
	})
}

// TestPlainTextSurvives: a text session survives the panic of another session.
func TestPlainTextSurvives(t *testing.T) {
	h := &echoHandler{onMessage: func(_ *engine.Session, m *framing.Message) {
		if string(m.Payload) == "panic" {
			panic(context.Canceled)
		}
	}}
	_, addr := startEngine(t, engine.Config{Handler: h, Cores: 1, LingerTimeout: 200 * time.Millisecond})
	conn, doomed := upgrade(t, "ws://"+addr+"/echo"), upgrade(t, "ws://"+addr+"/echo")
	defer conn.Close()
	defer doomed.Close()
	for _, text := range []string{"before", "after"} {
		if err := wsutil.WriteClientText(conn, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, _, err := wsutil.ReadServerData(conn); err != nil || string(got) != text {
			t.Fatalf("%q, %v", got, err)
		}
		if text == "before" {
			if err := wsutil.WriteClientText(doomed, []byte("panic")); err != nil {
				t.Fatal(err)
			}
			h.awaitEnds(t, 1)
		}
	}
	h.check(t)
}
