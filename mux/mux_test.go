package mux

import (
	"errors"
	"fmt"
	"testing"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/internal/testkit"
)

// The next handler sees everything but Responses, in order, and OnClose after
// the pending requests were failed.
func TestNextHandler(t *testing.T) {
	seen := make(chan string, 10)
	p := newPair(t, pairConfig{server: engine.HandlerFuncs{
		Open:    func(*engine.Session) { seen <- "open" },
		Message: func(_ *engine.Session, m *framing.Message) { seen <- fmt.Sprint(m.Type, " ", string(m.Payload)) },
		Close: func(_ *engine.Session, reason error) {
			seen <- fmt.Sprint("close ", errors.Is(reason, engine.ErrPeerClosed))
		},
	}})
	for _, m := range []framing.Message{
		{Type: framing.OneWay, Payload: []byte("a")},
		{Type: framing.Response, ID: 5, Payload: []byte("b")}, // answers nothing
		{Type: framing.Request, ID: 6, Payload: []byte("c")},
	} {
		if err := p.dialed.SendMessage(&m); err != nil {
			t.Fatal(err)
		}
	}
	p.dialed.Close()
	for _, want := range []string{"open", "0 a", "1 c", "close true"} {
		if got := testkit.Receive(t, seen, want); got != want {
			t.Errorf("the next handler saw %q, want %q", got, want)
		}
	}
	if n := p.server.Dropped(); n != 1 {
		t.Errorf("%d responses dropped, want 1", n)
	}
}

// Two muxes on one session, as two applications in one process have, keep
// tables of their own.
func TestTablesOfSeveralMuxes(t *testing.T) {
	p := newPair(t, pairConfig{})
	a, b := New(nil, Config{}), New(nil, Config{})
	first, second := a.table(p.dialed), b.table(p.dialed)
	if first == second {
		t.Error("two muxes share a table")
	}
	if again := a.table(p.dialed); again != first {
		t.Error("a mux has two tables for one session")
	}
}

// A session that never asks has no table.
func TestIdleSessionHasNoTable(t *testing.T) {
	p := newPair(t, pairConfig{server: answerWith("")})
	if _, err := p.client.Request(testkit.Context(t), p.dialed, nil); err != nil {
		t.Fatal(err)
	}
	if p.server.lookup(p.accepted) != nil {
		t.Error("the session that only answered has a table")
	}
}

// Other messages than Responses pass a Mux without an allocation.
func TestPassThroughAllocations(t *testing.T) {
	p := newPair(t, pairConfig{})
	var messages int
	x := New(engine.HandlerFunc(func(*engine.Session, *framing.Message) { messages++ }), Config{})
	m := &framing.Message{Type: framing.Request, Payload: []byte("x")}
	unknown := &framing.Message{Type: framing.Response, ID: 1}
	allocs := testing.AllocsPerRun(1000, func() {
		x.OnMessage(p.dialed, m)
		x.OnMessage(p.dialed, unknown)
	})
	if allocs != 0 || messages != 1001 {
		t.Errorf("%v allocations a message, %d messages", allocs, messages)
	}
}
