package mux_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"

	"github.com/millrace/millrace/engine"
	"github.com/millrace/millrace/framing"
	"github.com/millrace/millrace/mux"
)

// A server asks its client: with a Mux on both sides, either may.
func ExampleMux_Request() {
	sessions := make(chan *engine.Session, 1)
	asks := mux.New(engine.HandlerFuncs{Open: func(s *engine.Session) { sessions <- s }}, mux.Config{})
	server := engine.New(engine.Config{Handler: asks})
	l, err := server.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	client := engine.New(engine.Config{Handler: engine.HandlerFunc(func(s *engine.Session, m *framing.Message) {
		if err := s.Reply(m, append([]byte("I heard: "), m.Payload...)); err != nil {
			log.Print(err)
		}
	})})
	defer client.Close()
	if _, err := client.Dial(context.Background(), l.Addr().String(), engine.Packets()); err != nil {
		log.Fatal(err)
	}

	// Not in OnOpen: a callback would wait for itself.
	answer, err := asks.Request(context.Background(), <-sessions, []byte("who is there?"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(answer.Payload))
	// Output: I heard: who is there?
}

// dialServer starts a server with handler h, and dials it with a Mux of that Config.
func dialServer(h engine.Handler, cfg mux.Config) (asks *mux.Mux, s *engine.Session, stop func()) {
	server := engine.New(engine.Config{Handler: h})
	l, err := server.Listen("127.0.0.1:0", engine.Packets())
	if err != nil {
		log.Fatal(err)
	}
	if err := server.Start(); err != nil {
		log.Fatal(err)
	}
	asks = mux.New(nil, cfg)
	client := engine.New(engine.Config{Handler: asks})
	s, err = client.Dial(context.Background(), l.Addr().String(), engine.Packets())
	if err != nil {
		log.Fatal(err)
	}
	return asks, s, func() {
		_ = client.Close()
		_ = server.Close()
	}
}

// A server reports a failure by a Response with FlagFailed, a code and a text.
func ExampleRemoteError() {
	asks, s, stop := dialServer(engine.HandlerFunc(func(s *engine.Session, m *engine.Message) {
		failure := binary.BigEndian.AppendUint16(nil, 404)
		_ = s.SendMessage(&engine.Message{Type: framing.Response, ID: m.ID, Flags: framing.FlagFailed,
			Payload: append(failure, "no such user"...)})
	}), mux.Config{})
	defer stop()
	_, err := asks.Request(context.Background(), s, []byte("user 7"))
	var failed *mux.RemoteError
	if errors.As(err, &failed) {
		fmt.Println(failed.Code, failed.Text)
	}
	// Output: 404 no such user
}

// MaxPending bounds the requests that wait on a session; more fail at once. RequestMessage
// sends a message with all its fields.
func ExampleMux_RequestMessage() {
	received := make(chan *engine.Message)
	asks, s, stop := dialServer(engine.HandlerFunc(func(_ *engine.Session, m *engine.Message) {
		received <- m.Clone() // and never answers
	}), mux.Config{MaxPending: 1})
	defer stop()
	ctx, cancel := context.WithCancel(context.Background())
	first := make(chan error)
	go func() {
		_, err := asks.RequestMessage(ctx, s, &engine.Message{BizType: 7, Ext: []byte("trace=1"), Payload: []byte("slow")})
		first <- err
	}()
	m := <-received
	fmt.Printf("%d %s %s\n", m.BizType, m.Ext, m.Payload)

	_, err := asks.Request(ctx, s, []byte("another one"))
	fmt.Println(errors.Is(err, mux.ErrTooManyPending))
	cancel()
	fmt.Println(<-first)
	// Output:
	// 7 trace=1 slow
	// true
	// context canceled
}
