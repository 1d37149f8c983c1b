package mux

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

func TestRequest(t *testing.T) {
	p := newPair(t, pairConfig{server: answerWith("re: ")})
	m, err := p.client.Request(testkit.Context(t), p.dialed, []byte("ping"))
	if err != nil {
		t.Fatal(err)
	}
	if string(m.Payload) != "re: ping" || m.Type != framing.Response {
		t.Errorf("got %+v", m)
	}
	empty, err := p.client.Request(testkit.Context(t), p.dialed, nil)
	if err != nil || string(empty.Payload) != "re: " {
		t.Errorf("an empty request got %+v, %v", empty, err)
	}
}

// The other fields of a message are sent too, and the caller's message is not
// changed.
func TestRequestMessage(t *testing.T) {
	got := make(keeper, 1)
	p := newPair(t, pairConfig{server: got})
	ask := framing.Message{
		Type: framing.OneWay, ID: 77, BizType: 9, Ext: []byte("ext"), Payload: []byte("body"),
		Flags: framing.FlagHighPriority, Compression: framing.CompressionZlib,
	}
	before := ask
	answer := make(chan error, 1)
	go func() {
		m, err := p.client.RequestMessage(testkit.Context(t), p.dialed, &ask)
		if err == nil && (string(m.Payload) != "fine" || m.BizType != 5 || string(m.Ext) != "rext") {
			err = fmt.Errorf("the answer came as %+v", m)
		}
		answer <- err
	}()
	m := testkit.Receive(t, got, "the request")
	if m.Type != framing.Request || m.BizType != 9 || string(m.Ext) != "ext" || string(m.Payload) != "body" ||
		m.Flags != framing.FlagHighPriority || m.Compression != framing.CompressionZlib {
		t.Errorf("the request came as %+v", m)
	}
	reply := framing.Message{Type: framing.Response, ID: m.ID, BizType: 5, Ext: []byte("rext"), Payload: []byte("fine")}
	if err := p.accepted.SendMessage(&reply); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Receive(t, answer, "the answer"); err != nil {
		t.Error(err)
	}
	if ask.Type != before.Type || ask.ID != before.ID {
		t.Errorf("the caller's message became %+v", ask)
	}
}

// Answers come when they are ready, and find their callers.
func TestAnswersOutOfOrder(t *testing.T) {
	const requests = 100
	got := make(keeper, requests)
	p := newPair(t, pairConfig{server: got})
	var wg sync.WaitGroup
	for i := range requests {
		wg.Go(func() {
			want := fmt.Sprint("number ", i)
			m, err := p.client.Request(testkit.Context(t), p.dialed, []byte(want))
			if err != nil || string(m.Payload) != want {
				t.Errorf("%s got %+v, %v", want, m, err)
			}
		})
	}
	var asked []*framing.Message
	for range requests {
		asked = append(asked, testkit.Receive(t, got, "a request"))
	}
	for i := range asked { // the last one first
		m := asked[len(asked)-1-i]
		if err := p.accepted.Reply(m, m.Payload); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if n := pending(p.client, p.dialed); n != 0 {
		t.Errorf("%d requests still pending", n)
	}
}

// Both sides ask at the same time, under equal ids, and each answer reaches its
// own caller.
func TestHazard07BothDirections(t *testing.T) {
	for name, dispatch := range map[string]engine.Dispatch{"workers": engine.Workers, "inline": engine.Inline} {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, pairConfig{
				client: answerWith("client: "), server: answerWith("server: "), dispatch: dispatch,
			})
			var wg sync.WaitGroup
			ask := func(x *Mux, s *engine.Session, peer string, caller int) {
				for i := range 200 {
					payload := fmt.Sprintf("%d/%d", caller, i)
					m, err := x.Request(testkit.Context(t), s, []byte(payload))
					if err != nil || string(m.Payload) != peer+payload {
						t.Errorf("%s asked %s: got %+v, %v", payload, peer, m, err)
						return
					}
				}
			}
			for caller := range 8 {
				wg.Go(func() { ask(p.client, p.dialed, "server: ", caller) })
				wg.Go(func() { ask(p.server, p.accepted, "client: ", caller) })
			}
			wg.Wait()
			if c, s := p.client.Dropped(), p.server.Dropped(); c != 0 || s != 0 {
				t.Errorf("%d and %d responses were dropped", c, s)
			}
		})
	}
}

// A cancelled request leaves no entry, and its late response is dropped and
// counted.
func TestHazard07TimeoutLeavesNothing(t *testing.T) {
	got := make(keeper, 1)
	next := make(keeper, 1)
	p := newPair(t, pairConfig{client: next, server: got})
	ctx, cancel := context.WithCancel(testkit.Context(t))
	result := make(chan error, 1)
	go func() {
		_, err := p.client.Request(ctx, p.dialed, []byte("slow"))
		result <- err
	}()
	m := testkit.Receive(t, got, "the request")
	if n := pending(p.client, p.dialed); n != 1 {
		t.Errorf("%d requests pending, want 1", n)
	}
	cancel()
	if err := testkit.Receive(t, result, "the end of the request"); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	if n := pending(p.client, p.dialed); n != 0 {
		t.Errorf("%d requests pending after the cancel, want 0", n)
	}
	p.accepted.Reply(m, []byte("late"))
	p.accepted.Send([]byte("marker"))
	if m := testkit.Receive(t, next, "the marker"); string(m.Payload) != "marker" {
		t.Errorf("the late response went to the next handler: %+v", m)
	}
	if n := p.client.Dropped(); n != 1 {
		t.Errorf("%d responses dropped, want 1", n)
	}
}

func TestRequestDeadline(t *testing.T) {
	got := make(keeper, 2)
	p := newPair(t, pairConfig{server: got})
	ctx, cancel := context.WithTimeout(testkit.Context(t), 10*time.Millisecond)
	defer cancel()
	for range 2 { // the second one ends before it begins
		if _, err := p.client.Request(ctx, p.dialed, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want context.DeadlineExceeded", err)
		}
	}
	if len(got) > 1 {
		t.Error("a request whose context had ended was sent")
	}
}

// errCustom is a close reason of the application's own.
var errCustom = errors.New("closed for the test")

// A pending request ends with its session, with the session's reason, although
// its own context never ends; and so does every later one.
func TestHazard07SessionEndsRequests(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(p *pair)
		want error
	}{
		{"the peer closes", func(p *pair) { p.accepted.Close() }, engine.ErrPeerClosed},
		{"the peer aborts", func(p *pair) { p.accepted.Abort(errCustom) }, nil},
		{"the peer's engine closes", func(p *pair) { p.serverEngine.Close() }, nil},
		{"closed here", func(p *pair) { p.dialed.Close() }, engine.ErrClosed},
		{"closed here with a reason", func(p *pair) { p.dialed.CloseWith(errCustom) }, errCustom},
		{"aborted here", func(p *pair) { p.dialed.Abort(errCustom) }, errCustom},
		{"the engine closes here", func(p *pair) { p.clientEngine.Close() }, engine.ErrClosed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const requests = 10
			got := make(keeper, requests)
			reasons := make(chan error, 1)
			p := newPair(t, pairConfig{server: got, client: engine.HandlerFuncs{
				Close: func(_ *engine.Session, reason error) { reasons <- reason },
			}})
			results := make(chan error, requests)
			for range requests {
				go func() {
					_, err := p.client.Request(context.Background(), p.dialed, nil)
					results <- err
				}()
			}
			for range requests {
				testkit.Receive(t, got, "a request")
			}
			tc.end(p)
			reason := testkit.Receive(t, reasons, "OnClose")
			for range requests {
				err := testkit.Receive(t, results, "the end of a request")
				if err == nil || !errors.Is(err, reason) || (tc.want != nil && !errors.Is(err, tc.want)) {
					t.Errorf("a request ended with %v, its session with %v, want %v", err, reason, tc.want)
				}
			}
			if _, err := p.client.Request(context.Background(), p.dialed, nil); err == nil ||
				(tc.want != nil && !errors.Is(err, tc.want)) {
				t.Errorf("a later request got %v, want %v", err, tc.want)
			}
			if n := pending(p.client, p.dialed); n != 0 {
				t.Errorf("%d requests still pending", n)
			}
		})
	}
}

// Requests that begin while their session ends get its reason and never hang,
// on whichever side of OnClose they fall.
func TestHazard07RequestsRaceTheEnd(t *testing.T) {
	for range 30 {
		p := newPair(t, pairConfig{server: make(keeper, 1000)})
		var wg sync.WaitGroup
		start := make(chan struct{})
		for range 8 {
			wg.Go(func() {
				<-start
				if _, err := p.client.Request(testkit.Context(t), p.dialed, nil); !errors.Is(err, errCustom) {
					t.Errorf("got %v, want the close reason", err)
				}
			})
		}
		close(start)
		p.dialed.Abort(errCustom)
		wg.Wait()
		if n := pending(p.client, p.dialed); n != 0 {
			t.Fatalf("%d requests still pending", n)
		}
		p.clientEngine.Close()
		p.serverEngine.Close()
	}
}

// The framing of the multiplexed line carries ids too.
func TestRequestOverMuxLine(t *testing.T) {
	p := newPair(t, pairConfig{
		server: answerWith("re: "),
		listen: engine.Framed(framing.MuxLine{Role: framing.Server}),
		dial:   engine.Framed(framing.MuxLine{Role: framing.Client}),
	})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			line := fmt.Sprint("line ", i)
			m, err := p.client.Request(testkit.Context(t), p.dialed, []byte(line))
			if err != nil || string(m.Payload) != "re: "+line {
				t.Errorf("%s got %+v, %v", line, m, err)
			}
		})
	}
	wg.Wait()
	if _, err := p.client.Request(testkit.Context(t), p.dialed, []byte("two\nlines")); !errors.Is(err, framing.ErrUnencodable) {
		t.Errorf("two lines got %v, want ErrUnencodable", err)
	}
}

func TestMaxPending(t *testing.T) {
	got := make(keeper, 3)
	p := newPair(t, pairConfig{server: got, config: Config{MaxPending: 2}})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			if _, err := p.client.Request(testkit.Context(t), p.dialed, nil); err != nil {
				t.Error(err)
			}
		})
	}
	first, second := testkit.Receive(t, got, "a request"), testkit.Receive(t, got, "a request")
	if _, err := p.client.Request(testkit.Context(t), p.dialed, nil); !errors.Is(err, ErrTooManyPending) {
		t.Errorf("the third of 2 got %v, want ErrTooManyPending", err)
	}
	p.accepted.Reply(first, nil)
	p.accepted.Reply(second, nil)
	wg.Wait()
	if len(got) != 0 {
		t.Error("the refused request was sent")
	}
}

func TestMaxPendingDefaultAndBounds(t *testing.T) {
	if n := New(nil, Config{}).config.MaxPending; n != DefaultMaxPending {
		t.Errorf("default MaxPending %d, want %d", n, DefaultMaxPending)
	}
	x := New(nil, Config{MaxPending: -1})
	if _, err := x.Request(t.Context(), nil, nil); err == nil {
		t.Error("a negative MaxPending is no error")
	}
}

// A message that can't be sent is an error of the call, and leaves nothing pending.
func TestRequestThatCannotBeSent(t *testing.T) {
	p := newPair(t, pairConfig{server: answerWith("")})
	_, err := p.client.Request(testkit.Context(t), p.dialed, make([]byte, engine.DefaultMaxMessageSize+1))
	if !errors.Is(err, engine.ErrTooLarge) {
		t.Errorf("got %v, want ErrTooLarge", err)
	}
	if n := pending(p.client, p.dialed); n != 0 {
		t.Errorf("%d requests pending", n)
	}
	if _, err := p.client.Request(testkit.Context(t), p.dialed, nil); err != nil {
		t.Errorf("the next request got %v", err)
	}
}

// The answers that are failures, as they come over a connection.
func TestFailedAnswers(t *testing.T) {
	p := newPair(t, pairConfig{server: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		reply := framing.Message{Type: framing.Response, ID: m.ID, Payload: m.Payload[1:]}
		switch m.Payload[0] {
		case 'F':
			reply.Flags = framing.FlagFailed
		case 'M':
			reply.Flags = framing.FlagMore
			s.SendMessage(&reply)
			reply.Flags = 0
		}
		s.SendMessage(&reply)
	})})
	var remote *RemoteError
	_, err := p.client.Request(testkit.Context(t), p.dialed, []byte("F\x00\x2anothing there"))
	if !errors.As(err, &remote) || *remote != (RemoteError{Code: 42, Text: "nothing there"}) {
		t.Errorf("got %v, want the peer's failure", err)
	}
	if _, err := p.client.Request(testkit.Context(t), p.dialed, []byte("Mpart")); !errors.Is(err, ErrStreaming) {
		t.Errorf("got %v, want ErrStreaming", err)
	}
	m, err := p.client.Request(testkit.Context(t), p.dialed, []byte("-fine"))
	if err != nil || string(m.Payload) != "fine" {
		t.Errorf("the request after them got %+v, %v", m, err)
	}
	if n := p.client.Dropped(); n != 1 {
		t.Errorf("%d responses dropped, want the stream's second", n)
	}
}
